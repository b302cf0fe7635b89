//! The server's side of a run: what its instances count, scraped while it goes on, over plain HTTP.
//! Deliberately absent: what the numbers mean (`measure` folds them) and who is asked (`command` knows the nodes).

mod scraper;
mod watch;

pub use scraper::{NotScraped, Scraper};
pub use watch::{Sink, WatchedNode, Watcher};
