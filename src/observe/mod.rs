//! The server's side of a run: what its instances count, scraped while it goes on. So far plain HTTP, one scraper an
//! instance.
//! Deliberately absent: what the numbers mean (`measure` folds them) and who is asked (`command` knows the nodes).

mod scraper;

pub use scraper::{NotScraped, Scraper};

use crate::wire::prometheus::Scrape;

/// How much a counter, summed over its series with these labels, grew between two scrapes; `None` where the second has
/// no such series. One that began anew counts from 0.
pub fn growth(before: &Scrape, after: &Scrape, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let now = after.sum(name, labels)?;
    let then = before.sum(name, labels).unwrap_or(0.0);
    Some(if now < then { now } else { now - then })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_a_difference_and_a_restart_begins_at_0() {
        let scrape = |text: &str| Scrape::parse(text).unwrap();
        let before = scrape("a_total{e=\"0\"} 5\na_total{e=\"1\"} 7\nb_total 9\n");
        let after = scrape("a_total{e=\"0\"} 6\na_total{e=\"1\"} 9\nb_total 4\nc_total 2\n");
        assert_eq!(growth(&before, &after, "a_total", &[]), Some(3.0));
        assert_eq!(growth(&before, &after, "a_total", &[("e", "1")]), Some(2.0));
        assert_eq!(growth(&before, &after, "b_total", &[]), Some(4.0));
        assert_eq!(growth(&before, &after, "c_total", &[]), Some(2.0));
        assert_eq!(growth(&before, &after, "d_total", &[]), None);
    }
}
