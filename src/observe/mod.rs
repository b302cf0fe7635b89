//! The server's side of a run: what its instances count, scraped while it goes on. So far plain HTTP, one scraper an
//! instance.
//! Deliberately absent: what the numbers mean (`measure` folds them) and who is asked (`command` knows the nodes).

mod scraper;

pub use scraper::{NotScraped, Scraper};
