//! From DWARF as compilers write it to places in the author's files, read by what the host reads it with.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use addr2line::Context;
use gimli::{Dwarf, EndianSlice, Error, LittleEndian};

use super::files::Files;

/// Where a range of code comes from; addresses begin at the content of the module's code section.
pub struct Place {
    pub range: Range<u64>,
    /// The function and those that were inlined into it, the outermost first; never empty.
    pub frames: Vec<Frame>,
    /// Whether the outermost of the frames is the function that the code is in, which has its name without any DWARF.
    pub whole: bool,
}

/// A function, and the line in it that is run or whose call was inlined.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub function: Option<Rc<str>>,
    pub file: Rc<str>,
    pub line: u32,
    pub column: u32,
}

/// The places in the author's files in a code section of this length, in the order of their addresses, none over another; and
/// what could not be read.
pub fn places(
    sections: &HashMap<&str, &[u8]>,
    code: u64,
    files: &Files,
) -> (Vec<Place>, Option<Error>) {
    let load = |id: gimli::SectionId| {
        let section = sections.get(id.name()).copied().unwrap_or_default();
        Ok::<_, Error>(EndianSlice::new(section, LittleEndian))
    };
    let mut trouble = None;
    let mut places = Vec::new();
    let read = Dwarf::load(load).and_then(|dwarf| {
        let rows = rows(&dwarf, &mut trouble)?;
        Ok((Context::from_dwarf(dwarf)?, rows))
    });
    let (context, rows) = match read {
        Ok(read) => read,
        Err(error) => return (places, Some(error)),
    };
    let mut known = Known::new(files);
    for range in rows.into_iter().filter(|row| row.end <= code) {
        match known.place(&context, range) {
            Ok(place) => places.extend(place),
            Err(error) => trouble = Some(error),
        }
    }
    (places, trouble)
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The ranges of code that belong to one line each, in their order.
fn rows(dwarf: &Dwarf<Slice<'_>>, trouble: &mut Option<Error>) -> Result<Vec<Range<u64>>, Error> {
    let mut rows = Vec::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header);
        if let Err(error) = unit.and_then(|unit| rows_of(unit, &mut rows)) {
            *trouble = Some(error);
        }
    }
    rows.sort_by_key(|row| row.start);
    let mut end = 0;
    rows.retain(|row| {
        let apart = row.start >= end;
        end = end.max(row.end);
        apart
    });
    Ok(rows)
}

fn rows_of(unit: gimli::Unit<Slice<'_>>, ranges: &mut Vec<Range<u64>>) -> Result<(), Error> {
    let Some(program) = unit.line_program else {
        return Ok(());
    };
    let mut rows = program.rows();
    let mut sequence = None;
    let mut last: Option<u64> = None;
    while let Some((_, row)) = rows.next_row()? {
        let address = row.address();
        // The code section begins with a number: what is said to be there, a linker has left out.
        let live = *sequence.get_or_insert(address) != 0;
        if let Some(start) = last.filter(|start| live && *start < address) {
            ranges.push(start..address);
        }
        last = Some(address).filter(|_| !row.end_sequence());
        if row.end_sequence() {
            sequence = None;
        }
    }
    Ok(())
}

/// Names that were met, each kept once.
struct Known<'a> {
    files: &'a Files,
    called: HashMap<String, Option<Rc<str>>>,
    functions: HashSet<Rc<str>>,
}

impl<'a> Known<'a> {
    fn new(files: &'a Files) -> Self {
        Self {
            files,
            called: HashMap::new(),
            functions: HashSet::new(),
        }
    }

    fn place(
        &mut self,
        context: &Context<Slice<'_>>,
        range: Range<u64>,
    ) -> Result<Option<Place>, Error> {
        let mut found = context.find_frames(range.start).skip_all_loads()?;
        let mut frames = Vec::new();
        let mut whole = false;
        while let Some(frame) = found.next()? {
            let ours = self.frame(&frame);
            whole = ours.is_some();
            frames.extend(ours);
        }
        frames.reverse();
        Ok((!frames.is_empty()).then_some(Place {
            range,
            frames,
            whole,
        }))
    }

    fn frame(&mut self, frame: &addr2line::Frame<'_, Slice<'_>>) -> Option<Frame> {
        let location = frame.location.as_ref()?;
        Some(Frame {
            file: self.file(location.file?)?,
            line: location.line?,
            column: location.column.unwrap_or(0),
            function: frame.function.as_ref().and_then(|name| {
                let name = name.raw_name().ok()?;
                Some(self.function(&name))
            }),
        })
    }

    fn file(&mut self, path: &str) -> Option<Rc<str>> {
        if let Some(known) = self.called.get(path) {
            return known.clone();
        }
        let called = self.files.called(path).map(Rc::from);
        self.called.insert(path.to_owned(), called.clone());
        called
    }

    fn function(&mut self, name: &str) -> Rc<str> {
        if let Some(known) = self.functions.get(name) {
            return known.clone();
        }
        let function: Rc<str> = name.into();
        self.functions.insert(function.clone());
        function
    }
}
