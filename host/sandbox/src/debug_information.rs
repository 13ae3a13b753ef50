//! Whether it is safe to read a module's debug information: what reads it for a trap's stack (`addr2line`) calls itself for each
//! function that was inlined into another, as deep as they are nested.

use gimli::{DebugAbbrev, DebugInfo, LittleEndian};

/// The sections of one core module; of two with a name, the engine reads the last one.
#[derive(Debug, Default)]
pub(crate) struct DebugInformation<'a> {
    info: &'a [u8],
    abbreviations: &'a [u8],
}

impl<'a> DebugInformation<'a> {
    /// Takes a custom section, where it is one of those.
    pub(crate) fn add(&mut self, name: &str, content: &'a [u8]) {
        match name {
            ".debug_info" => self.info = content,
            ".debug_abbrev" => self.abbreviations = content,
            _ => {}
        }
    }

    /// Whether entries are nested deeper than compilers do. What cannot be read nobody follows.
    pub(crate) fn is_too_deep(&self) -> bool {
        let mut units = DebugInfo::new(self.info, LittleEndian).units();
        let abbreviations = DebugAbbrev::new(self.abbreviations, LittleEndian);
        while let Ok(Some(unit)) = units.next() {
            let Ok(abbreviations) = unit.abbreviations(&abbreviations) else {
                continue;
            };
            let Ok(mut entries) = unit.entries_raw(&abbreviations, None) else {
                continue;
            };
            while !entries.is_empty() {
                if entries.next_depth() > DEPTH_MAX {
                    return true;
                }
                let skipped = entries.read_abbreviation().and_then(|entry| {
                    entry.map_or(Ok(()), |entry| entries.skip_attributes(entry.attributes()))
                });
                if skipped.is_err() {
                    break;
                }
            }
        }
        false
    }
}

/// Deeper than any inliner goes; a thread's stack of 2 MiB is taken between 5,000 and 10,000.
const DEPTH_MAX: isize = 256;

/// One unit with `depth` entries, each in the one before, and how they look (DWARF 4, sections 7.5.1 and 7.5.3).
#[cfg(test)]
pub(crate) fn nested(depth: usize) -> (Vec<u8>, Vec<u8>) {
    let entries = [vec![1], vec![2; depth - 1], vec![0; depth]].concat();
    let header = [4, 0, 0, 0, 0, 0, 4];
    let length = u32::try_from(header.len() + entries.len()).unwrap();
    let info = [&length.to_le_bytes()[..], &header, &entries].concat();
    // A unit and an inlined function, both with entries inside and without attributes.
    (info, vec![1, 0x11, 1, 0, 0, 2, 0x1d, 1, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nests_deeper_than_compilers_do_is_seen_and_what_is_cut_is_not_followed() {
        let too_deep = |info: &[u8], abbreviations: &[u8]| {
            let mut found = DebugInformation::default();
            found.add(".debug_info", info);
            found.add(".debug_abbrev", abbreviations);
            found.is_too_deep()
        };
        for (depth, expected) in [(1, false), (256, false), (258, true), (1_000_000, true)] {
            let (info, abbreviations) = nested(depth);
            assert_eq!(too_deep(&info, &abbreviations), expected, "{depth}");
            // Behind a unit that says nothing.
            let (first, _) = nested(1);
            assert_eq!(
                too_deep(&[first, info.clone()].concat(), &abbreviations),
                expected,
                "{depth}"
            );
            assert!(!too_deep(&info, &[]) && !too_deep(&info[..10], &abbreviations));
        }
        assert!(!too_deep(&[], &[]));
    }
}
