//! The debug information of a component, reduced to what a trap is told by: the author's files, lines and functions.
//!
//! Compilers write ten times as much as the code, most of it of their own libraries. A stack needs none of that: a frame in a
//! library is told by its name, and code of a library that was inlined by the line of the author's that called it. It goes by
//! core module, after the component was made, so that it holds for every compiler that writes DWARF.

mod files;
mod read;
mod write;

use std::collections::HashMap;

use super::component::{self, PREAMBLE, append_section};
use super::manifest::Manifest;
use files::Files;

/// Reduces it. What cannot be read is left out, and said on standard error.
pub fn reduce(component: &[u8], manifest: &Manifest) -> Vec<u8> {
    let files = Files::of(manifest);
    component::map_modules(component, &mut |module| {
        let (module, trouble) = reduced(module, &files);
        if let Some(trouble) = trouble {
            eprintln!("debug information that cannot be read is left out: {trouble}");
        }
        module
    })
}

/// The module, and what could not be read of its debug information.
fn reduced(module: &[u8], files: &Files) -> (Vec<u8>, Option<gimli::Error>) {
    let Some(sections) = component::sections(module) else {
        return (module.to_vec(), None);
    };
    let debug = |name: &str| name.starts_with(".debug_");
    let customs = sections.iter().filter_map(|section| section.custom());
    let dwarf: HashMap<&str, &[u8]> = customs.filter(|(name, _)| debug(name)).collect();
    if dwarf.is_empty() {
        return (module.to_vec(), None);
    }
    let code = sections.iter().find(|section| section.id == CODE);
    let code = code.map_or(0, |section| section.content.len() as u64);
    let (places, trouble) = read::places(&dwarf, code, files);
    let mut reduced = module[..PREAMBLE].to_vec();
    for section in sections {
        if !section.custom().is_some_and(|(name, _)| debug(name)) {
            reduced.extend_from_slice(section.whole);
        }
    }
    for (name, content) in write::sections(&places) {
        append_section(&mut reduced, name, &content);
    }
    (reduced, trouble)
}

/// The section that a module's functions are in (WebAssembly core specification, section 5.5.13).
const CODE: u8 = 10;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use addr2line::Context;
    use gimli::{Dwarf, EndianSlice, LittleEndian};
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::read::{Frame, Place};
    use super::*;

    /// A plugin's folder with one file, `plugin.c`.
    fn author() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plugin.c"), "").unwrap();
        let text = "name = 'guard'\nversion = '1.0.0'\nlanguage = 'c'\nsteps = ['authorizer']";
        std::fs::write(folder.path().join("plugin.toml"), text).unwrap();
        let files = Files::of(&Manifest::read(folder.path()).unwrap());
        (folder, files)
    }

    /// Where code begins and ends, and functions with their files and lines.
    type Written<'a> = (u64, u64, &'a [(&'a str, &'a str, u32)]);

    /// A module with a code section of 1000 bytes, and DWARF that says of it what a compiler would, the innermost first.
    fn module(places: &[Written<'_>]) -> Vec<u8> {
        let frame = |(function, file, line): &(&str, &str, u32)| Frame {
            function: Some(Rc::from(*function)),
            file: Rc::from(*file),
            line: *line,
            column: 7,
        };
        let places: Vec<Place> = places
            .iter()
            .map(|(start, end, frames)| Place {
                range: *start..*end,
                frames: frames.iter().rev().map(frame).collect(),
                whole: false,
            })
            .collect();
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend([CODE, 0xe8, 0x07]);
        module.extend([0; 1000]);
        for (name, content) in write::sections(&places) {
            append_section(&mut module, name, &content);
        }
        append_section(&mut module, ".debug_loc", b"of no use");
        append_section(&mut module, "name", b"kept");
        module
    }

    /// What the host finds at an address.
    fn told(module: &[u8], address: u64) -> Vec<String> {
        let sections = component::sections(module).unwrap();
        let of = |id: gimli::SectionId| {
            let mut customs = sections.iter().filter_map(|section| section.custom());
            let found = customs.find(|(name, _)| *name == id.name());
            let content = found.map_or(&[][..], |(_, content)| content);
            Ok::<_, gimli::Error>(EndianSlice::new(content, LittleEndian))
        };
        let context = Context::from_dwarf(Dwarf::load(of).unwrap()).unwrap();
        let mut found = context.find_frames(address).skip_all_loads().unwrap();
        let mut told = Vec::new();
        while let Some(frame) = found.next().unwrap() {
            let name = frame
                .function
                .map(|name| name.raw_name().unwrap().to_string());
            let place = frame.location.unwrap();
            told.push(format!(
                "{} {}:{}:{}",
                name.as_deref().unwrap_or("?"),
                place.file.unwrap(),
                place.line.unwrap(),
                place.column.unwrap()
            ));
        }
        told
    }

    #[test]
    fn code_of_a_library_is_told_by_the_authors_line_that_called_it() {
        let (folder, files) = author();
        let ours = &*folder
            .path()
            .canonicalize()
            .unwrap()
            .join("plugin.c")
            .display()
            .to_string();
        let theirs = "/usr/include/vector";
        let module = module(&[
            (10, 20, &[("step", ours, 3)]),
            (
                20,
                30,
                &[("at", theirs, 99), ("first", ours, 5), ("step", ours, 4)],
            ),
            (
                30,
                40,
                &[
                    ("at", theirs, 98),
                    ("second", ours, 6),
                    ("begin", theirs, 97),
                    ("step", ours, 4),
                ],
            ),
            (40, 50, &[("first", ours, 7), ("sort", theirs, 96)]),
            (60, 900, &[("free", theirs, 95)]),
        ]);
        let (reduced, trouble) = reduced(&module, &files);
        assert_eq!(trouble, None);
        let wanted: [(u64, &[&str]); 7] = [
            (9, &[]),
            (10, &["step guard/plugin.c:3:7"]),
            (19, &["step guard/plugin.c:3:7"]),
            (25, &["first guard/plugin.c:5:7", "step guard/plugin.c:4:7"]),
            (
                39,
                &["second guard/plugin.c:6:7", "step guard/plugin.c:4:7"],
            ),
            (40, &["first guard/plugin.c:7:7"]),
            (61, &[]),
        ];
        for (address, frames) in wanted {
            assert_eq!(told(&reduced, address), frames, "at {address}");
        }
        let text = String::from_utf8_lossy(&reduced);
        assert!(!text.contains(ours) && !text.contains(theirs), "{text}");
        assert!(
            !text.contains("of no use") && text.contains("kept"),
            "{text}"
        );
    }

    #[test]
    fn a_module_without_debug_information_stays_as_it_is() {
        let (_folder, files) = author();
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        append_section(&mut module, "name", b"kept");
        assert_eq!(reduced(&module, &files), (module, None));
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_said() {
        let (_folder, files) = author();
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        append_section(&mut module, ".debug_info", b"\x20\0\0\0 and no more");
        let (reduced, trouble) = reduced(&module, &files);
        assert_eq!(reduced, module[..PREAMBLE]);
        assert!(trouble.is_some());
    }

    proptest! {
        #[test]
        fn no_debug_information_stops_a_build(
            flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..8),
            cuts in prop::collection::vec((any::<Index>(), any::<Index>()), 0..3),
        ) {
            let (folder, files) = author();
            let ours = &*folder.path().canonicalize().unwrap().join("plugin.c").display().to_string();
            let whole = module(&[
                (10, 20, &[("at", "/usr/include/vector", 99), ("step", ours, 3)]),
                (20, 30, &[("first", ours, 5), ("second", ours, 6), ("step", ours, 4)]),
                (60, 900, &[("free", ours, 95)]),
            ]);
            let mut spoilt = whole[..PREAMBLE].to_vec();
            for section in component::sections(&whole).unwrap() {
                let Some((name, content)) = section.custom() else {
                    spoilt.extend_from_slice(section.whole);
                    continue;
                };
                let mut content = content.to_vec();
                for (at, bits) in &flips {
                    let length = content.len();
                    content[at.index(length)] ^= bits;
                }
                if let Some((_, length)) = cuts.iter().find(|(at, _)| at.index(5) == name.len() % 5) {
                    let length = length.index(content.len());
                    content.truncate(length);
                }
                append_section(&mut spoilt, name, &content);
            }
            // What is left can be read, and says nothing of the machine that built it.
            let (once, _) = reduced(&spoilt, &files);
            let (twice, trouble) = reduced(&once, &files);
            prop_assert_eq!(trouble, None);
            prop_assert!(twice.len() <= once.len());
        }
    }
}
