use super::*;

fn distribution(values: &[f64]) -> Option<String> {
    let each = |sink: &mut dyn FnMut(f64)| values.iter().for_each(|&value| sink(value));
    let markers = [Marker { label: "p50".to_owned(), value: values.first().copied().unwrap_or(0.0) }];
    let chart = DistributionChart {
        label: "a <b>",
        unit: "ms",
        counted: "requests",
        values: &each,
        markers: &markers,
    };
    chart.svg()
}

fn line(points: Vec<(f64, Option<f64>)>) -> Option<String> {
    let series = [Series { name: "sent", colour: BLUE, points }];
    LineChart { label: "rate", unit: "req/s", across: "s", series: &series }.svg()
}

#[test]
fn nothing_draws_nothing() {
    assert_eq!(distribution(&[]), None);
    assert_eq!(distribution(&[f64::NAN, f64::INFINITY, -1.0]), None);
    assert_eq!(line(vec![]), None);
    assert_eq!(line(vec![(0.0, None), (1.0, Some(f64::NAN))]), None);
}

#[test]
fn one_value_and_a_hundred_thousand_draw_a_chart_of_like_size() {
    let many: Vec<f64> = (0..100_000).map(|i| 40.0 + f64::from(i % 977) * 0.1).collect();
    let points = (0..100_000).map(|i| (f64::from(i), Some(f64::from(i % 13)))).collect();
    for svg in [distribution(&[59.5]), distribution(&[0.0]), distribution(&many), line(points)] {
        let svg = svg.unwrap();
        assert!(svg.starts_with("<svg role=\"img\" aria-label=\"") && svg.ends_with("</svg>\n"), "{svg:.80}");
        assert!(svg.len() < 40_000, "{}", svg.len());
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("style="));
    }
    assert!(distribution(&[1.0]).unwrap().contains("aria-label=\"a &lt;b>\""));
}

#[test]
fn the_same_values_draw_the_same_bytes() {
    let values = [3.0, 1.0, 4.0, 1.0, 5.0, 900.0];
    assert_eq!(distribution(&values), distribution(&values));
}

#[test]
fn a_long_tail_gets_a_logarithmic_axis() {
    let mut values = vec![10.0; 500];
    values.push(9000.0);
    assert!(distribution(&values).unwrap().contains("logarithmic scale"));
    assert!(!distribution(&[10.0, 20.0, 30.0]).unwrap().contains("logarithmic scale"));
}

#[test]
fn a_chart_uses_no_colour_that_the_page_cannot_replace() {
    let svg =
        distribution(&[1.0, 2.0, 3.0]).unwrap() + &line(vec![(0.0, Some(1.0)), (1.0, Some(2.0))]).unwrap();
    let known = PALETTE.map(Colour::light_hex);
    for hex in svg.split('"').filter(|word| word.len() == 7 && word.starts_with('#')) {
        assert!(known.iter().any(|colour| colour == hex), "{hex}");
    }
}

#[test]
fn a_gap_in_a_series_stays_a_gap() {
    let svg = line(vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(2.0))]).unwrap();
    assert_eq!(svg.matches("stroke-width=\"4\"").count(), 1);
    assert_eq!(svg.matches("<circle").count(), 1);
}

fn intervals(values: &[(f64, f64, f64)]) -> Option<String> {
    let row = |&(low, value, high): &(f64, f64, f64)| Interval {
        name: "a <b>".to_owned(),
        colour: BLUE,
        value,
        ends: (low, high),
    };
    let rows: Vec<Interval> = values.iter().map(row).collect();
    IntervalChart { label: "scores", unit: "%", rows: &rows, markers: &[] }.svg()
}

#[test]
fn intervals_are_drawn_below_zero_too_and_not_without_a_number() {
    let one = intervals(&[(-3.0, -1.0, 1.0)]).unwrap();
    let two = intervals(&[(-3.0, -1.0, 1.0), (0.0, 0.0, 0.0)]).unwrap();
    assert_eq!([one.matches("<circle").count(), two.matches("<circle").count()], [1, 2]);
    assert!(two.contains("a &lt;b&gt;") && !two.contains("<b>"));
    assert_eq!(intervals(&[]), None);
    assert_eq!(intervals(&[(0.0, f64::NAN, 1.0)]), None);
}
