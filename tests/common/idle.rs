//! When a proxy has nothing left.

use pdbench::wire::prometheus::Scrape;

/// What counts something that is under way.
const UNDER_WAY: [&str; 5] = [
    "pdbench_proxy_requests_in_flight",
    "pdbench_proxy_instance_requests_in_flight",
    "pdbench_proxy_legs_in_flight",
    "pdbench_proxy_waiting_for_decode_calls",
    "pdbench_proxy_waiting_for_notifications",
];

/// Asserts that the metrics of a proxy with instances have all of it, and that all of it is over.
pub fn assert_idle(metrics: &Scrape) {
    for name in UNDER_WAY {
        assert_eq!(metrics.sum(name, &[]), Some(0.0), "{name}");
    }
}
