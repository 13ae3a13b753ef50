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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_its_length_before_it() {
        let mut bytes = Vec::new();
        append_section(&mut bytes, "ab", &[7; 200]);
        assert_eq!(&bytes[..6], &[0, 0xcb, 0x01, 2, b'a', b'b']);
        assert_eq!(bytes.len(), 3 + 3 + 200);
    }
}
