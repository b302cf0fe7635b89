use super::axis::Axis;
use super::{AXIS, Area, CHARACTER, Colour, Drawn, GRID, INK, canvas_of};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Height of the bar with its axis, in units of the chart.
const BAR: u32 = 130;
/// Height of a line of the legend.
const LINE: u32 = 40;
/// Names in a line of the legend.
const PER_LINE: usize = 4;
/// Share of its own colour that every second piece of one colour keeps.
const PALE: f64 = 0.55;

/// One bar of pieces that add up.
pub struct StackedBar<'a> {
    /// What is shown, for readers who do not see it.
    pub label: &'a str,
    /// Unit of the values.
    pub unit: &'static str,
    /// From the left to the right; pieces below 0 are not drawn.
    pub pieces: &'a [Piece],
}

/// A piece of a bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// What it is of.
    pub name: &'static str,
    /// Its colour.
    pub colour: Colour,
    /// It is drawn paler than others of its colour.
    pub pale: bool,
    /// How long it is.
    pub value: f64,
}

impl StackedBar<'_> {
    /// The chart as an SVG element; `None` without a piece that has a length.
    pub fn svg(&self) -> Option<String> {
        let drawn: Vec<&Piece> = self.pieces.iter().filter(|piece| 0.0 < piece.value).collect();
        let whole: f64 = drawn.iter().map(|piece| piece.value).sum();
        if !whole.is_finite() || whole <= 0.0 {
            return None;
        }
        let lines = drawn.len().div_ceil(PER_LINE) as u32;
        let axis = Axis::from_zero(whole, 6).in_unit(self.unit);
        canvas_of(self.label, lines * LINE + BAR, |root| draw(root, &axis, &drawn, lines * LINE))
    }
}

fn draw(root: &Area<'_>, axis: &Axis, pieces: &[&Piece], top: u32) -> Drawn {
    let column = root.dim_in_pixel().0 as i32 / PER_LINE as i32;
    for (nth, piece) in pieces.iter().enumerate() {
        let left = 6 + (nth % PER_LINE) as i32 * column;
        let middle = (nth / PER_LINE) as i32 * LINE as i32 + LINE as i32 / 2;
        let patch = [(left, middle - 9), (left + 22, middle + 9)];
        root.draw(&Rectangle::new(patch, style(piece)))?;
        let room = ((f64::from(column) - 40.0) / CHARACTER) as usize;
        let name: String = piece.name.chars().take(room).collect();
        root.draw(&Text::new(name, (left + 30, middle), INK.text(HPos::Left)))?;
    }
    let (_, plot) = root.split_vertically(top);
    let mut chart = ChartBuilder::on(&plot)
        .margin_left(16)
        .margin_right(40)
        .x_label_area_size(46)
        .build_cartesian_2d(axis.clone(), 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.rgb().stroke_width(2))
        .axis_style(AXIS.rgb().stroke_width(2))
        .label_style(INK.text(HPos::Center))
        .draw()?;
    let mut from = 0.0;
    for piece in pieces {
        let to = from + piece.value;
        chart.draw_series([Rectangle::new([(from, 0.1), (to, 0.9)], style(piece))])?;
        from = to;
    }
    Ok(())
}

fn style(piece: &Piece) -> ShapeStyle {
    let opacity = if piece.pale { PALE } else { 1.0 };
    piece.colour.rgb().mix(opacity).filled()
}
