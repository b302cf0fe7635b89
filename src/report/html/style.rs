use crate::report::chart::PALETTE;
use sha2::{Digest, Sha256};

/// The style sheet of every page. Charts bring their light colours as attributes; on a dark screen rules
/// for these attributes put others in their place.
pub(super) fn style_sheet() -> String {
    let mut style = include_str!("style.css").to_owned();
    style += "@media screen and (prefers-color-scheme: dark) {\n";
    for colour in PALETTE {
        let (light, dark) = (colour.light_hex(), colour.dark_hex());
        style += &format!("figure [fill=\"{light}\"] {{ fill: {dark}; }}\n");
        style += &format!("figure [stroke=\"{light}\"] {{ stroke: {dark}; }}\n");
    }
    style + "}\n"
}

/// The digest that a content security policy names a style sheet by.
pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}
