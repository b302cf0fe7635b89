//! Prometheus text exposition, version 0.0.4: a writer, and a reader of names, labels, values and
//! histograms. Pure. Deliberately absent: time stamps, exemplars, types and help when reading.

use std::fmt::Write as _;

/// Labels of a series, in the order of its line.
pub type Labels = Vec<(String, String)>;

/// What a family of series is, as its `# TYPE` line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

/// Counts of observations by upper bound, with their sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Finite upper bounds, ascending; an observation belongs to the first bound that is not below it.
    bounds: Vec<f64>,
    /// Observations of each bound, then those above all bounds; not cumulative.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty histogram with finite, ascending upper `bounds`; one without bound is always added.
    pub fn new(bounds: &[f64]) -> Self {
        Self { bounds: bounds.to_vec(), counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts `value`.
    pub fn observe(&mut self, value: f64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the observations.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Each upper bound with the number of observations up to it; the last bound is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter()).scan(0, |total, (bound, count)| {
            *total += count;
            Some((bound, *total))
        })
    }

    /// From upper bounds with cumulative counts in the order of a scrape; `None` unless both ascend and the
    /// last bound is infinite.
    fn from_cumulative(buckets: &[(f64, f64)], sum: f64) -> Option<Self> {
        let ((last, _), finite) = buckets.split_last()?;
        let ascending = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let whole = buckets.iter().all(|(_, count)| 0.0 <= *count && count.fract() == 0.0);
        if !ascending || !whole || *last != f64::INFINITY {
            return None;
        }
        let totals = buckets.iter().map(|(_, total)| *total as u64);
        let counts = totals.scan(0, |before, total| Some(total - std::mem::replace(before, total)));
        Some(Self { bounds: finite.iter().map(|(le, _)| *le).collect(), counts: counts.collect(), sum })
    }
}

/// Writes an exposition, family by family.
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
}

impl Writer {
    /// Begins a family of series: its help and type lines.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.text.push_str(&format!("# HELP {name} "));
        escape(&mut self.text, help, false);
        self.text.push_str(&format!("\n# TYPE {name} {kind}\n"));
    }

    /// One line of the family begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (index, (key, text)) in labels.iter().enumerate() {
            self.text.push_str(if index == 0 { "{" } else { "," });
            self.text.push_str(key);
            self.text.push_str("=\"");
            escape(&mut self.text, text, true);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, " {}", number(value));
    }

    /// The lines of one series of a histogram family: `_bucket` with `le` as the last label, `_sum`, `_count`.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        for (bound, total) in histogram.cumulative() {
            let bound = number(bound);
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&bucket, &labels, total as f64);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, histogram.count() as f64);
    }

    /// The exposition.
    pub fn finish(self) -> String {
        self.text
    }
}

fn number(value: f64) -> String {
    if value.is_infinite() {
        return if 0.0 < value { "+Inf" } else { "-Inf" }.to_owned();
    }
    format!("{value:?}")
}

fn escape(into: &mut String, text: &str, quotes: bool) {
    for letter in text.chars() {
        match letter {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if quotes => into.push_str("\\\""),
            other => into.push(other),
        }
    }
}

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name, with `_bucket`, `_sum` or `_count` for the lines of a histogram.
    pub name: String,
    /// Labels in the order of the line.
    pub labels: Labels,
    /// Value; may be infinite or not a number.
    pub value: f64,
}

impl Sample {
    /// The value of label `key`.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(key, value)| self.label(key) == Some(value))
    }
}

/// What one scrape of `/metrics` said, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    /// Every line that is not a comment.
    pub samples: Vec<Sample>,
}

/// A line that is not Prometheus text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not Prometheus text: `{text}`")]
pub struct ScrapeError {
    /// Its number, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

impl Scrape {
    /// Reads an exposition; comments and time stamps are skipped.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, ScrapeError> {
        Self::parse_only(text, |_| true)
    }

    /// The same of the lines whose name is wanted; the others are not looked at any further.
    ///
    /// # Errors
    /// The first of those lines that cannot be read.
    pub fn parse_only(text: &str, wanted: impl Fn(&str) -> bool) -> Result<Self, ScrapeError> {
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            let end = trimmed.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(trimmed.len());
            if trimmed.is_empty() || trimmed.starts_with('#') || !wanted(&trimmed[..end]) {
                continue;
            }
            let sample = parse_line(trimmed);
            samples.push(sample.ok_or_else(|| ScrapeError { line: index + 1, text: line.to_owned() })?);
        }
        Ok(Self { samples })
    }

    /// The lines called `name` that carry all of `labels`.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> + 'a {
        self.samples.iter().filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// Sum over the lines called `name` that carry all of `labels`; `None` when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.select(name, labels).map(|sample| sample.value).reduce(|a, b| a + b)
    }

    /// Every series of histogram `name`, with its labels without `le`. A series whose buckets do not
    /// ascend to a last one without bound is left out.
    pub fn histograms(&self, name: &str) -> Vec<(Labels, Histogram)> {
        let (bucket, sum) = (format!("{name}_bucket"), format!("{name}_sum"));
        let mut series: Vec<(Labels, Vec<(f64, f64)>)> = Vec::new();
        for sample in self.select(&bucket, &[]) {
            let Some(bound) = sample.label("le").and_then(|le| le.parse().ok()) else { continue };
            let labels: Labels = sample.labels.iter().filter(|(key, _)| key != "le").cloned().collect();
            match series.iter_mut().find(|(known, _)| *known == labels) {
                Some((_, buckets)) => buckets.push((bound, sample.value)),
                None => series.push((labels, vec![(bound, sample.value)])),
            }
        }
        let whole = series.into_iter().filter_map(|(labels, buckets)| {
            let total = self.select(&sum, &[]).find(|sample| sample.labels == labels)?.value;
            Some((labels, Histogram::from_cumulative(&buckets, total)?))
        });
        whole.collect()
    }
}

/// `name value`, `name{key="value",…} value`, each with an optional time stamp.
fn parse_line(line: &str) -> Option<Sample> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = parse_labels(inside, &mut labels)?;
    }
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    let stamped = words.next().is_none_or(|stamp| stamp.parse::<i64>().is_ok());
    (!name.is_empty() && stamped && words.next().is_none()).then(|| Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Reads `key="value",…}` and gives back what follows.
fn parse_labels<'a>(mut rest: &'a str, labels: &mut Labels) -> Option<&'a str> {
    loop {
        rest = rest.trim_start().trim_start_matches(',').trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (key, quoted) = rest.split_once('=')?;
        let mut value = String::new();
        let mut letters = quoted.trim_start().strip_prefix('"')?.chars();
        loop {
            match letters.next()? {
                '"' => break,
                '\\' => value.push(match letters.next()? {
                    'n' => '\n',
                    escaped => escaped,
                }),
                other => value.push(other),
            }
        }
        labels.push((key.trim().to_owned(), value));
        rest = letters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> impl Strategy<Value = Sample> {
        let label = ("[a-z_]{1,8}", ".{0,12}");
        let value = prop_oneof![
            any::<f64>().prop_filter("comparable", |v| !v.is_nan()),
            (0..1000).prop_map(f64::from)
        ];
        ("[a-z][a-z_:]{0,12}", proptest::collection::vec(label, 0..4), value)
            .prop_map(|(name, labels, value)| Sample { name, labels, value })
    }

    fn borrowed(labels: &Labels) -> Vec<(&str, &str)> {
        labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(samples in proptest::collection::vec(sample(), 0..8)) {
            let mut writer = Writer::default();
            for sample in &samples {
                writer.family(&sample.name, Kind::Gauge, "help\n of \\ more lines");
                writer.sample(&sample.name, &borrowed(&sample.labels), sample.value);
            }
            prop_assert_eq!(Scrape::parse(&writer.finish()).unwrap().samples, samples);
        }

        #[test]
        fn a_histogram_is_read_back(values in proptest::collection::vec(0.0..20.0_f64, 0..50), text in ".{0,8}") {
            let mut histogram = Histogram::new(&[0.01, 1.0, 2.5, 10.0]);
            values.iter().for_each(|value| histogram.observe(*value));
            let mut writer = Writer::default();
            writer.family("h", Kind::Histogram, "help");
            writer.histogram("h", &[("engine", "0")], &histogram);
            writer.histogram("h", &[("engine", &text)], &Histogram::new(&[1.0]));
            let scrape = Scrape::parse(&writer.finish()).unwrap();
            let mut series = scrape.histograms("h");
            if text != "0" {
                prop_assert_eq!(series.len(), 2);
                prop_assert_eq!(series.remove(0), (vec![("engine".to_owned(), "0".to_owned())], histogram));
            }
        }
    }

    #[test]
    fn a_line_of_a_real_scrape_is_read() {
        let text = "# TYPE x counter\nvllm:x_bucket{engine=\"0\",le=\"2.097152e+06\", model_name=\"tiny\"} 6.0 1795\n\
                    y +Inf\nz{} 1\n";
        let scrape = Scrape::parse(text).unwrap();
        assert_eq!(scrape.samples[0].label("le"), Some("2.097152e+06"));
        assert_eq!(scrape.sum("vllm:x_bucket", &[("model_name", "tiny")]), Some(6.0));
        assert_eq!(scrape.sum("y", &[]), Some(f64::INFINITY));
        assert_eq!(scrape.sum("vllm:x_bucket", &[("engine", "1")]), None);
    }

    #[test]
    fn only_wanted_lines_are_read() {
        let text = "a{x=\"1\"} 1\nb not a number\nab 2\n";
        let scrape = Scrape::parse_only(text, |name| name.starts_with('a')).unwrap();
        assert_eq!(scrape.samples.iter().map(|sample| sample.value).collect::<Vec<_>>(), [1.0, 2.0]);
        assert_eq!(Scrape::parse_only(text, |name| name == "b").unwrap_err().line, 2);
    }

    #[test]
    fn text_that_is_no_exposition_names_its_line() {
        for text in ["a 1\nb", "a 1\nb{c=\"d\" 1", "a 1\n<html> x", "a 1\nb 1 2 3", "a 1\nb{c=d} 1"] {
            assert_eq!(Scrape::parse(text).unwrap_err().line, 2, "{text}");
        }
    }

    #[test]
    fn buckets_that_do_not_ascend_are_no_histogram() {
        let text = "h_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 4\nh_sum 1\n";
        assert!(Scrape::parse(text).unwrap().histograms("h").is_empty());
    }
}
