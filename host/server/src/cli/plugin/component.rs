//! The binary format, as far as it is written here.

/// Appends a custom section (WebAssembly core specification, section 5.5.3; a component has the same).
pub fn append_section(component: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut section = Vec::new();
    push_leb128(&mut section, name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    component.push(0);
    push_leb128(component, section.len());
    component.extend_from_slice(&section);
}

/// Gives the component's own imports and exports another package and version: of `from` and what follows it up to the end of
/// the name, `to`. What it holds inside keeps its names. Both have the same length, so that nothing moves.
///
/// Source: component model, Binary.md: sections 10 and 11 are imports and exports.
pub fn rename(component: &mut [u8], from: (&str, &str), to: (&str, &str)) {
    let mut rest = component.get_mut(PREAMBLE..).unwrap_or_default();
    while let [id, after @ ..] = rest {
        let id = *id;
        let (size, used) = leb128(after);
        let Some((section, next)) = after
            .get_mut(used..)
            .and_then(|content| content.split_at_mut_checked(size))
        else {
            return; // cut short: whoever reads it says so
        };
        if matches!(id, 10 | 11) {
            rename_in(section, from, to);
        }
        rest = next;
    }
}

fn rename_in(section: &mut [u8], (package, version): (&str, &str), to: (&str, &str)) {
    for at in 0..section.len() {
        let Some(name) = section[at..].strip_prefix(package.as_bytes()) else {
            continue;
        };
        let is_name = |octet: &u8| octet.is_ascii_alphanumeric() || b"/-".contains(octet);
        let length = name.iter().take_while(|octet| is_name(octet)).count();
        if name[length..].starts_with(version.as_bytes()) {
            let behind = at + package.len() + length;
            section[at..at + package.len()].copy_from_slice(to.0.as_bytes());
            section[behind..behind + version.len()].copy_from_slice(to.1.as_bytes());
        }
    }
}

/// A number in LEB128, and the octets that it takes; as much of it as is there.
fn leb128(bytes: &[u8]) -> (usize, usize) {
    let mut number = 0_usize;
    for (place, octet) in bytes.iter().enumerate().take(5) {
        number |= usize::from(octet & 0x7f) << (7 * place);
        if octet & 0x80 == 0 {
            return (number, place + 1);
        }
    }
    (usize::MAX, 0)
}

/// An unsigned number in LEB128 (section 5.2.2).
fn push_leb128(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// The magic number, the version and the layer.
const PREAMBLE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_components_own_imports_and_exports_are_renamed() {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        for id in [10, 11, 3] {
            bytes.extend([id, 24]);
            bytes.extend(b"host:a/b-c@0.2.12 host:d");
        }
        bytes.extend([10, 99]); // cut short
        rename(&mut bytes, ("host:", "@0.2.12"), ("wasi:", "@0.2.11"));
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("wasi:a/b-c@0.2.11 host:d").count(), 2);
        assert_eq!(text.matches("host:a/b-c@0.2.12 host:d").count(), 1);
    }

    #[test]
    fn a_section_has_its_length_before_it() {
        let mut bytes = Vec::new();
        append_section(&mut bytes, "ab", &[7; 200]);
        assert_eq!(&bytes[..6], &[0, 0xcb, 0x01, 2, b'a', b'b']);
        assert_eq!(bytes.len(), 3 + 3 + 200);
    }
}
