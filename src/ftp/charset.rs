//! Names of a device that writes them in an old character set, as its account says (`charset`), to and
//! from the text that they are in the home.
//!
//! On the wire names are bytes; libunftp (patch 0005) hands over what is UTF-8 as it is, and every other
//! byte as a private character (U+F780 to U+F7FF), which leaves as the byte again. So a name with private
//! characters in it came in other bytes than UTF-8: [`heard`] reads them in the account's character set.
//! [`told`] is the way back. Together they lose nothing: for every name in a home, `heard(told(name))` is
//! that name, whether the character set has it or not; never is a `?` put for what it lacks.
//!
//! Where an account names no character set, names stay as libunftp has them.

use crate::account::Charset;
use std::borrow::Cow;

/// The text of a path as the client sent it. What is UTF-8 is taken as that, part by part.
pub(super) fn heard(charset: Option<Charset>, path: &str) -> Cow<'_, str> {
    match charset {
        Some(charset) if path.chars().any(is_private) => {
            Cow::Owned(path.split('/').map(|name| heard_name(charset, name)).collect::<Vec<_>>().join("/"))
        }
        _ => Cow::Borrowed(path),
    }
}

/// A name as it is sent to the client: in the account's character set, or in UTF-8 where the client asked
/// for that, or where the character set lacks a character or would be misunderstood.
pub(super) fn told(charset: Option<Charset>, utf8: bool, name: &str) -> Cow<'_, str> {
    let Some(charset) = charset.filter(|_| !name.is_ascii()) else { return Cow::Borrowed(name) };
    let comes_back = |sent: &str| heard_name(charset, sent) == name;
    if !utf8
        && !name.chars().any(is_private)
        && let Some(sent) = charset.encode(name).map(|bytes| text_of(&bytes))
        && comes_back(&sent)
    {
        return Cow::Owned(sent);
    }
    if comes_back(name) {
        return Cow::Borrowed(name);
    }
    // It was kept byte by byte before the account had this character set: the private characters go out
    // as what they are in UTF-8, and are known by that when they come back.
    Cow::Owned(name.chars().map(|char| if is_private(char) { text_of_each(char) } else { char.to_string() }).collect())
}

fn heard_name(charset: Charset, name: &str) -> Cow<'_, str> {
    if !name.chars().any(is_private) {
        return Cow::Borrowed(name);
    }
    let bytes = bytes_of(name);
    if let Ok(text) = std::str::from_utf8(&bytes) {
        // Only private characters themselves are UTF-8 and yet taken apart.
        return Cow::Owned(text.to_owned());
    }
    match charset.decode(&bytes) {
        // Were a private character left in it, it would go out as a byte that never came.
        Some(text) if !text.contains(|char| is_private(char) || char == '/' || char == '\0') => Cow::Owned(text),
        _ => Cow::Borrowed(name),
    }
}

fn is_private(char: char) -> bool {
    ('\u{f780}'..='\u{f7ff}').contains(&char)
}

fn private(byte: u8) -> char {
    char::from_u32(0xf700 + u32::from(byte)).expect("U+F700 to U+F7FF are no surrogates")
}

/// As libunftp would hand these bytes over, but for private characters in UTF-8, of which there are none.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| private(*byte)));
    }
    text
}

/// The bytes of this character in UTF-8, each as a private character.
fn text_of_each(char: char) -> String {
    char.encode_utf8(&mut [0; 4]).bytes().map(private).collect()
}

/// The bytes that libunftp made this name of.
fn bytes_of(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    for char in name.chars() {
        match char {
            '\u{f780}'..='\u{f7ff}' => bytes.push((u32::from(char) & 0xff) as u8),
            char => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charset(label: &str) -> Option<Charset> {
        Some(label.parse().unwrap())
    }

    /// As libunftp decodes what comes in.
    fn wire(bytes: &[u8]) -> String {
        bytes
            .utf8_chunks()
            .map(|chunk| {
                let valid =
                    chunk.valid().chars().map(|char| if is_private(char) { text_of_each(char) } else { char.to_string() });
                valid.chain(chunk.invalid().iter().map(|byte| private(*byte).to_string())).collect::<String>()
            })
            .collect()
    }

    #[test]
    fn names_are_read_in_the_accounts_character_set() {
        let tokyo = charset("shift_jis");
        let sent = wire(b"/in/\x83X\x83L\x83\x83\x83\x93.pdf");
        assert_eq!(heard(tokyo, &sent), "/in/スキャン.pdf");
        assert_eq!(heard(None, &sent), sent);
        // Each part of a path by itself: the working folder may have been named otherwise.
        assert_eq!(heard(tokyo, &wire("/é/".as_bytes())), "/é/");
        assert_eq!(heard(charset("windows-1252"), &format!("/é/{}", wire(b"caf\xe9"))), "/é/café");
        let half = wire(b"\x83.pdf\x83");
        assert_eq!(heard(tokyo, &half), half, "what is no Shift-JIS stays as it came");
    }

    #[test]
    fn names_go_out_in_it_unless_the_client_reads_utf_8() {
        let tokyo = charset("shift_jis");
        assert_eq!(bytes_of(&told(tokyo, false, "スキャン.pdf")), b"\x83X\x83L\x83\x83\x83\x93.pdf");
        assert_eq!(told(tokyo, true, "スキャン.pdf"), "スキャン.pdf");
        assert_eq!(told(None, false, "スキャン.pdf"), "スキャン.pdf");
        assert_eq!(told(tokyo, false, "räkning.pdf"), "räkning.pdf", "never a question mark");
    }

    #[test]
    fn whatever_is_told_is_heard_again() {
        let names = [
            "scan.pdf", "café.pdf", "Ã©", "スキャン", "räkning スキャン", "\u{f7e9}", "caf\u{f7e9}.pdf", "\u{f783}X\u{f7ff}",
            "é\u{f7e9}", "\u{ef}\u{178}\u{a9}", "\u{fffd}", "\u{e5e5}€¥\\~",
        ];
        for label in ["shift_jis", "windows-1252", "gb18030", "big5", "euc-kr", "koi8-r", "utf-8", "x-user-defined"] {
            for name in names {
                for utf8 in [false, true] {
                    let sent = bytes_of(&told(charset(label), utf8, name));
                    assert_eq!(heard(charset(label), &wire(&sent)), name, "{label} {utf8} {sent:x?}");
                }
            }
        }
    }
}
