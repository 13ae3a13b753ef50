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

/// A section of a component or of a core module: its number, its content, and all of it.
pub struct Section<'a> {
    pub id: u8,
    pub content: &'a [u8],
    pub whole: &'a [u8],
}

impl<'a> Section<'a> {
    /// The name and content of a custom section.
    pub fn custom(&self) -> Option<(&'a str, &'a [u8])> {
        let (length, used) = leb128(self.content);
        let name = self.content.get(used..)?;
        let (name, content) = name.split_at_checked(length)?;
        Some((std::str::from_utf8(name).ok()?, content)).filter(|_| self.id == 0)
    }
}

/// The sections of a component or of a core module; none if it is cut short.
pub fn sections(bytes: &[u8]) -> Option<Vec<Section<'_>>> {
    let mut sections = Vec::new();
    let mut rest = bytes.get(PREAMBLE..)?;
    while let [id, after @ ..] = rest {
        let (size, used) = leb128(after);
        let content = after.get(used..)?.get(..size)?;
        let (whole, next) = rest.split_at(1 + used + size);
        sections.push(Section {
            id: *id,
            content,
            whole,
        });
        rest = next;
    }
    Some(sections)
}

/// The component with what `change` makes of each of its core modules, also of those in components inside; what is cut short
/// stays as it is.
pub fn map_modules(component: &[u8], change: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
    map_modules_below(component, change, NESTED_MAX)
}

fn map_modules_below(
    component: &[u8],
    change: &mut dyn FnMut(&[u8]) -> Vec<u8>,
    deeper: usize,
) -> Vec<u8> {
    let Some(sections) = sections(component).filter(|_| deeper > 0) else {
        return component.to_vec();
    };
    let mut changed = component[..PREAMBLE].to_vec();
    for section in sections {
        let inside = match section.id {
            CORE_MODULE => change(section.content),
            COMPONENT => map_modules_below(section.content, change, deeper - 1),
            _ => {
                changed.extend_from_slice(section.whole);
                continue;
            }
        };
        changed.push(section.id);
        push_leb128(&mut changed, inside.len());
        changed.extend_from_slice(&inside);
    }
    changed
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
pub const PREAMBLE: usize = 8;
/// Sections of a component (component model, Binary.md).
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
/// How deep components are looked for in components; what tools make is two or three deep.
const NESTED_MAX: usize = 16;

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
    fn every_core_module_is_changed_and_nothing_else() {
        let wrap = |inside: &[(u8, &[u8])]| {
            let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
            for (id, content) in inside {
                bytes.push(*id);
                push_leb128(&mut bytes, content.len());
                bytes.extend_from_slice(content);
            }
            bytes
        };
        let of = |module: &[u8]| {
            let inner = wrap(&[(CORE_MODULE, module), (6, b"\x01")]);
            wrap(&[(0, b"\x01a!"), (CORE_MODULE, module), (COMPONENT, &inner)])
        };
        let component = of(b"module");
        let changed = map_modules(&component, &mut |module| [module, &[b'!'; 200]].concat());
        assert_eq!(changed, of(&[&b"module"[..], &[b'!'; 200]].concat()));

        let cut = &component[..component.len() - 1];
        assert_eq!(map_modules(cut, &mut |_| Vec::new()), cut);
        assert_eq!(
            sections(&component).unwrap()[0].custom(),
            Some(("a", &b"!"[..]))
        );
    }

    #[test]
    fn a_section_has_its_length_before_it() {
        let mut bytes = Vec::new();
        append_section(&mut bytes, "ab", &[7; 200]);
        assert_eq!(&bytes[..6], &[0, 0xcb, 0x01, 2, b'a', b'b']);
        assert_eq!(bytes.len(), 3 + 3 + 200);
    }
}
