//! Components that carry something.

/// A component with a custom section more (WebAssembly core specification, section 5.5.3).
pub fn with_section(mut component: Vec<u8>, name: &str, content: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    let section = [&[length], name.as_bytes(), content.as_bytes()].concat();
    component.push(0);
    let mut rest = section.len();
    // Unsigned LEB128.
    while rest > 0x7f {
        component.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    component.push(rest as u8);
    component.extend(section);
    component
}
