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

/// Base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for sextet in 0..4 {
            let figure = ALPHABET[(bits >> (18 - 6 * sextet) & 63) as usize];
            text.push(if sextet <= three.len() { figure as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let table = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in table {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }
}
