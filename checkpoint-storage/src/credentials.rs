//! Keeping keys and passwords out of what people read.

/// Options of a storage that are no secret.
const PLAIN: [&str; 7] =
    ["endpoint", "region", "bucket", "root", "default_storage_class", "checksum_algorithm", "role_arn"];
/// Options that begin so are switches.
const SWITCHES: [&str; 3] = ["enable_", "disable_", "allow_"];
/// What a name contains whose value is one.
const SECRET: [&str; 6] = ["secret", "token", "passw", "access_key", "credential", "customer_key"];

/// Masks every credential in a text, for example in a URI or in the line of a configuration file, so that it
/// can be shown: values of options in a query but for those that are known to be harmless, values of keys
/// that sound like a secret, and what stands before the `@` of a host. Each masked byte becomes one `*`, so
/// places in the text stay what they are.
///
/// ```
/// use strandline_checkpoint_storage::mask_credentials;
///
/// let line = r#"storage = "s3://jobs/sum?region=eu-1&secret_access_key=abc""#;
/// assert_eq!(mask_credentials(line), r#"storage = "s3://jobs/sum?region=eu-1&secret_access_key=***""#);
/// ```
pub fn mask_credentials(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"://") {
            at += 3;
            let host = at..at + length(&bytes[at..], |byte| !b"/?\"' \t\r\n".contains(&byte));
            if let Some(user) = bytes[host.clone()].iter().rposition(|&byte| byte == b'@') {
                bytes[at..at + user].fill(b'*');
                at += user;
            }
            continue;
        }
        let name = at..at + length(&bytes[at..], is_of_a_name);
        if name.is_empty() {
            at += 1;
            continue;
        }
        let is_option = at > 0 && matches!(bytes[at - 1], b'?' | b'&' | b';');
        at = name.end;
        // An option has its value at once; a key of a file may have blanks and quotes around its sign.
        let sign = name.end + if is_option { 0 } else { length(&bytes[name.end..], is_around_a_sign) };
        if !bytes.get(sign).is_some_and(|&byte| byte == b'=' || (byte == b':' && !is_option)) {
            continue;
        }
        let name = String::from_utf8_lossy(&bytes[name]).to_lowercase();
        let is_plain = PLAIN.contains(&name.as_str()) || SWITCHES.iter().any(|begin| name.starts_with(begin));
        if !(is_option && !is_plain || SECRET.iter().any(|part| name.contains(part))) {
            continue;
        }
        let mut value = sign + 1;
        if !is_option {
            value += length(&bytes[value..], is_around_a_sign);
        }
        at = value + length(&bytes[value..], |byte| !b"&\"'\r\n".contains(&byte));
        bytes[value..at].fill(b'*');
    }
    // Whole characters only: each range ends before an ASCII byte or at the end of the text.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How many bytes at the start are of this sort.
fn length(bytes: &[u8], of: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !of(byte)).unwrap_or(bytes.len())
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.%".contains(&byte)
}

fn is_around_a_sign(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'"' | b'\'')
}

/// A URI as errors show it: its place, its endpoint and its region.
pub(crate) fn shown(uri: &str) -> String {
    let Some((place, query)) = uri.split_once('?') else { return mask_credentials(uri) };
    let is_shown = |option: &&str| matches!(option.split_once('='), Some(("endpoint" | "region", _)));
    let options: Vec<_> = query.split('&').filter(is_shown).collect();
    let query = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
    mask_credentials(&format!("{place}{query}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_sounds_like_a_secret_is_masked_and_the_rest_stays() {
        for (text, masked) in [
            (
                "s3://b/p?endpoint=http://h:9&access_key_id=AK&enable_x=true",
                "s3://b/p?endpoint=http://h:9&access_key_id=**&enable_x=true",
            ),
            ("s3://b/p?endpoint=http://me:pw@h:9", "s3://b/p?endpoint=http://*****@h:9"),
            (
                "s3:/b/p?secret_acces_key=x/y+z==&unheard=of it",
                "s3:/b/p?secret_acces_key=*******&unheard=*****",
            ),
            ("secret_access_key = \"k\"\nname = \"a\"", "secret_access_key = \"*\"\nname = \"a\""),
            ("{\"session_token\": 'k', 'key_by': 'user'}", "{\"session_token\": '*', 'key_by': 'user'}"),
            (
                "checkpoint = { storage = \"s3://b?secret=ä\", intervall = 1 }",
                "checkpoint = { storage = \"s3://b?secret=**\", intervall = 1 }",
            ),
            ("https://u:p@host/x, then mail a@b.c", "https://***@host/x, then mail a@b.c"),
            ("filter = \"a == b && c\"", "filter = \"a == b && c\""),
            ("", ""),
        ] {
            assert_eq!(mask_credentials(text), masked);
        }
    }

    #[test]
    fn a_shown_uri_keeps_its_place() {
        assert_eq!(
            shown("s3://b/p?region=r&access_key_id=AK&endpoint=http://h"),
            "s3://b/p?region=r&endpoint=http://h"
        );
        assert_eq!(shown("s3://b/p?access_key_id=AK"), "s3://b/p");
        assert_eq!(shown("file:///a"), "file:///a");
    }

    proptest! {
        #[test]
        fn no_text_shows_the_value_of_a_secret_and_every_length_stays(
            before in "[ -~äß\n]{0,30}",
            name in "[?&]?(secret_access_key|session_token|password|access_key_id)",
            after in "([&\"'\n][ -~]{0,20})?",
        ) {
            let secret = "5ecret/+5ECRET";
            let text = format!("{before} {name}={secret}{after}");
            let masked = mask_credentials(&text);
            prop_assert!(!masked.contains(secret), "{}", masked);
            prop_assert_eq!(masked.len(), text.len());
        }
    }
}
