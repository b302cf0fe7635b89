//! x
mod leg_usage;
mod reading;
#[cfg(test)]
mod reading_tests;
pub use reading::ReadLimits;
