use super::axis::Axis;
use super::{AXIS, Area, CHARACTER, Colour, Drawn, GRID, INK, Marker, TOP, canvas_of};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Height of a row, in units of the chart.
const ROW: u32 = 58;
/// Room below the rows for the labels of the axis.
const BELOW: u32 = 46;
/// Most characters of a name.
const NAME: usize = 34;

/// Values with their intervals, one below the other.
pub struct IntervalChart<'a> {
    /// What is shown, for readers who do not see it.
    pub label: &'a str,
    /// Unit of the values.
    pub unit: &'static str,
    /// From the top down.
    pub rows: &'a [Interval],
    /// Values that all rows are held against, by name.
    pub markers: &'a [Marker],
}

/// A value between the ends of its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// What it is of.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// The value.
    pub value: f64,
    /// Where its interval begins and ends.
    pub ends: (f64, f64),
}

impl IntervalChart<'_> {
    /// The chart as an SVG element; `None` without a row.
    pub fn svg(&self) -> Option<String> {
        let of_rows = self.rows.iter().flat_map(|row| [row.ends.0, row.value, row.ends.1]);
        let all: Vec<f64> = of_rows.chain(self.markers.iter().map(|marker| marker.value)).collect();
        if self.rows.is_empty() || !all.iter().all(|value| value.is_finite()) {
            return None;
        }
        let (low, high) =
            all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
        let axis = Axis::spanning(low, high, 6).in_unit(self.unit);
        canvas_of(self.label, TOP + ROW * self.rows.len() as u32 + BELOW, |root| self.draw(root, &axis))
    }

    fn draw(&self, root: &Area<'_>, axis: &Axis) -> Drawn {
        let names: Vec<String> = self.rows.iter().map(|row| row.name.chars().take(NAME).collect()).collect();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let (_, plot) = root.split_vertically(TOP);
        let mut chart = ChartBuilder::on(&plot)
            .margin_right(40)
            .margin_left((longest as f64 * CHARACTER) as u32 + 30)
            .x_label_area_size(BELOW)
            .build_cartesian_2d(axis.clone(), 0.0..self.rows.len() as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb().stroke_width(2))
            .axis_style(AXIS.rgb().stroke_width(2))
            .label_style(INK.text(HPos::Center))
            .draw()?;
        let top = self.rows.len() as f64;
        for marker in self.markers {
            let line = [(marker.value, 0.0), (marker.value, top)];
            chart.draw_series([PathElement::new(line, AXIS.rgb().stroke_width(4))])?;
            let (x, _) = chart.backend_coord(&(marker.value, top));
            // To the left: where 0 is marked too, it stands to the right.
            let place = (x + 6, TOP as i32 / 2);
            root.draw(&Text::new(marker.label.clone(), place, INK.text(HPos::Right)))?;
        }
        for (nth, (row, name)) in self.rows.iter().zip(names).enumerate() {
            let middle = top - nth as f64 - 0.5;
            let colour = row.colour.rgb();
            let whiskers = [(row.ends.0, middle), (row.ends.1, middle)];
            chart.draw_series([PathElement::new(whiskers, colour.stroke_width(5))])?;
            chart.draw_series([Circle::new((row.value, middle), 9, colour.filled())])?;
            let (_, y) = chart.backend_coord(&(row.value, middle));
            root.draw(&Text::new(name, (6, y), INK.text(HPos::Left)))?;
        }
        Ok(())
    }
}
