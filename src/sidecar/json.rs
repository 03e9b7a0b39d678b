//! The JSON sidecar: one document, one line's end. Its schema is `schema/reading-1.schema.json`.

use super::reading::Reading;
use serde::Serialize;

pub(super) fn render(reading: &Reading) -> Vec<u8> {
    to_bytes(reading)
}

pub(super) fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("strings, numbers and lists always serialise");
    bytes.push(b'\n');
    bytes
}
