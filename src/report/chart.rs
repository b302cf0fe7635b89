//! Charts as SVG text: a distribution with its cumulative curve, series over time, and values with intervals. No fonts are
//! loaded and no bitmap is made; the same values give the same bytes. Colours are written as plain
//! attributes, so that a style sheet can replace them in dark mode ([`PALETTE`]).
//! Deliberately absent: captions, and which charts a report has.

mod axis;
mod distribution;
mod interval;
mod lines;
mod stacked;
#[cfg(test)]
mod tests;

pub use distribution::{DistributionChart, Marker, Values};
pub use interval::{Interval, IntervalChart};
pub use lines::{LineChart, Series};
pub use stacked::{Piece, StackedBar};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width of every chart, in units of its own view box: twice the size it is shown at, because the
/// drawing library knows whole units only.
const WIDTH: u32 = 1120;
/// Height of a chart, in the same units.
const HEIGHT: u32 = 500;
/// Height of the strip above the plot, where the legend stands.
const TOP: u32 = 56;
/// Size of all text, in the same units. The library writes a font size of this over 1.24.
const TEXT: f64 = 24.0 * 1.24;
/// Width of a figure of that text, estimated.
const FIGURE: f64 = 13.5;
/// Width of a letter of that text on average, estimated.
const CHARACTER: f64 = 12.0;

/// A colour with its light-mode value and the value that a dark page puts in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Red, green and blue on a light ground; what the SVG says.
    pub light: (u8, u8, u8),
    /// The same on a dark ground.
    pub dark: (u8, u8, u8),
}

/// First series (the colours are Okabe's and Ito's, told apart by colour-blind readers too).
pub const BLUE: Colour = Colour { light: (0x00, 0x72, 0xb2), dark: (0x5a, 0xb4, 0xf0) };
/// Second series.
pub const ORANGE: Colour = Colour { light: (0xd5, 0x5e, 0x00), dark: (0xff, 0x9d, 0x57) };
/// Third series.
pub const GREEN: Colour = Colour { light: (0x00, 0x8a, 0x65), dark: (0x3d, 0xd1, 0xa6) };
/// Fourth series.
pub const PURPLE: Colour = Colour { light: (0xa8, 0x4d, 0x80), dark: (0xe2, 0x94, 0xbd) };
/// Text.
const INK: Colour = Colour { light: (0x5a, 0x64, 0x72), dark: (0xa7, 0xb1, 0xbf) };
/// Lines of the grid.
const GRID: Colour = Colour { light: (0xe4, 0xe8, 0xed), dark: (0x2c, 0x33, 0x3d) };
/// Axes.
const AXIS: Colour = Colour { light: (0x9a, 0xa5, 0xb2), dark: (0x5b, 0x66, 0x75) };

/// What is none of the series.
pub const NEUTRAL: Colour = AXIS;

/// Every colour that a chart uses, for the style sheet of the page it stands in.
pub const PALETTE: [Colour; 7] = [BLUE, ORANGE, GREEN, PURPLE, INK, GRID, AXIS];

impl Colour {
    /// `#RRGGBB` as the SVG writes the light value.
    pub fn light_hex(self) -> String {
        hex(self.light)
    }

    /// `#RRGGBB` of the dark value.
    pub fn dark_hex(self) -> String {
        hex(self.dark)
    }

    fn rgb(self) -> RGBColor {
        RGBColor(self.light.0, self.light.1, self.light.2)
    }

    fn text(self, horizontal: HPos) -> TextStyle<'static> {
        ("sans-serif", TEXT).into_font().color(&self.rgb()).pos(Pos::new(horizontal, VPos::Center))
    }
}

fn hex((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Runs `draw` on an empty canvas and gives the SVG element, with `label` as its text for readers who
/// do not see it. `None` when the library gives up, which leaves a report without this chart.
fn canvas(label: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Option<String> {
    canvas_of(label, HEIGHT, draw)
}

/// The same, of another height.
fn canvas_of(label: &str, height: u32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Option<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw(&root).ok()?;
        root.present().ok()?;
    }
    let label = label.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    Some(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1))
}

/// Room for the longest of an axis' labels.
fn label_room(axis: &axis::Axis) -> u32 {
    let longest = axis.ticks.iter().map(|&tick| axis.label(tick).chars().count()).max().unwrap_or(1);
    (longest as f64 * FIGURE) as u32 + 26
}

/// The unit above the left axis, and the series' names with a patch of their colour, from the right end.
fn legend(root: &Area<'_>, unit: &str, names: &[(&str, Colour)]) -> Drawn {
    let middle = (TOP / 2) as i32;
    root.draw(&Text::new(unit.to_owned(), (6, middle), INK.text(HPos::Left)))?;
    let mut right = WIDTH as i32 - 12;
    for (name, colour) in names.iter().rev() {
        root.draw(&Text::new((*name).to_owned(), (right, middle), INK.text(HPos::Right)))?;
        right -= (name.chars().count() as f64 * CHARACTER) as i32 + 14;
        let patch = [(right - 22, middle - 9), (right, middle + 9)];
        root.draw(&Rectangle::new(patch, colour.rgb().filled()))?;
        right -= 22 + 34;
    }
    Ok(())
}
