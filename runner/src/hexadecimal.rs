//! Bytes as hexadecimal digits.

/// Lower-case digits, two for each byte.
pub(crate) fn lower(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
