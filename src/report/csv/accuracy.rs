use super::super::Reported;
use super::summary::{Row, row};
use super::text_cell;

/// Scores and comparisons under a definition of their own.
pub(super) fn accuracy(reported: &Reported<'_>) -> Vec<Row> {
    let (Some(result), Some(facts)) = (&reported.run.accuracy, &reported.run.manifest.accuracy) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    let mut put = |metric: &str, figures: &[(&str, Option<f64>)], count: usize| {
        let figures = figures
            .iter()
            .filter_map(|(name, value)| row(["accuracy", metric, "", name], *value, Some(count)));
        rows.extend(figures);
    };
    for (index, arm) in result.arms.iter().enumerate() {
        let name = facts.arm_name(index);
        let whole = [
            ("answered", Some(arm.answered as f64)),
            ("errors", Some(arm.errors as f64)),
            ("retried", Some(arm.retried as f64)),
            ("cut_share", arm.cut_share),
            ("empty_share", arm.empty_share),
            ("mean_output_tokens", arm.mean_output_tokens),
            ("p_falling", arm.trend.as_ref().map(|trend| trend.p_falling)),
        ];
        put(&text_cell(&name), &whole, arm.answered + arm.errors);
        for (filter, score) in result.filters.iter().zip(&arm.scores) {
            let (low, high) = score.interval.unzip();
            let figures = [
                ("right", Some(score.right as f64)),
                ("mean", score.mean),
                ("stderr", score.stderr),
                ("low", low),
                ("high", high),
                ("errors_as_wrong", score.errors_as_wrong),
                ("invalid_share", score.invalid_share),
            ];
            put(&text_cell(&format!("{name},{filter}")), &figures, arm.answered);
        }
    }
    for pair in &result.comparisons {
        let names = format!("{} - {}", facts.arm_name(pair.candidate), facts.arm_name(pair.baseline));
        let equal = [("texts_equal", Some(pair.texts.equal as f64)), ("p_falling", pair.p_falling)];
        put(&text_cell(&names), &equal, pair.texts.questions);
        for (filter, score) in result.filters.iter().zip(&pair.scores) {
            let (low, high) = score.interval.unzip();
            let figures = [
                ("both", Some(score.both as f64)),
                ("only_baseline", Some(score.only_baseline as f64)),
                ("only_candidate", Some(score.only_candidate as f64)),
                ("difference", score.difference),
                ("difference_low", low),
                ("difference_high", high),
                ("p_two_sided", score.p_two_sided),
                ("p_worse", score.p_worse),
                ("margin", Some(score.margin)),
            ];
            put(&text_cell(&format!("{names},{filter}")), &figures, score.questions);
        }
    }
    rows
}
