//! From places to DWARF: one unit with one line program, and functions only where some were inlined.

use std::collections::HashMap;
use std::rc::Rc;

use gimli::constants::{
    DW_AT_abstract_origin, DW_AT_call_column, DW_AT_call_file, DW_AT_call_line, DW_AT_high_pc,
    DW_AT_inline, DW_AT_low_pc, DW_AT_name, DW_AT_stmt_list, DW_INL_inlined,
    DW_TAG_inlined_subroutine, DW_TAG_subprogram,
};
use gimli::write::{
    Address, AttributeValue, DwarfUnit, EndianVec, FileId, LineProgram, LineString, Sections, Unit,
    UnitEntryId,
};
use gimli::{Encoding, Format, LineEncoding, LittleEndian};

use super::read::{Frame, Place};

/// The sections' names and contents; none if there is no place.
pub fn sections(places: &[Place]) -> Vec<(&'static str, Vec<u8>)> {
    let (Some(first), Some(last)) = (places.first(), places.last()) else {
        return Vec::new();
    };
    let (lines, files) = lines(places);
    let mut dwarf = DwarfUnit::new(ENCODING);
    dwarf.unit.line_program = lines;
    let root = dwarf.unit.root();
    let unit = dwarf.unit.get_mut(root);
    unit.set(DW_AT_stmt_list, AttributeValue::LineProgramRef);
    Functions {
        unit: &mut dwarf.unit,
        files,
        inlined: HashMap::new(),
    }
    .write(places);
    set_range(&mut dwarf.unit, root, first, last);

    let mut sections = Sections::new(EndianVec::new(LittleEndian));
    dwarf
        .write(&mut sections)
        .expect("no address and no reference is outside of the unit");
    let mut named = Vec::new();
    let _: Result<(), ()> = sections.for_each(|id, content| {
        if !content.slice().is_empty() {
            named.push((id.name(), content.slice().to_vec()));
        }
        Ok(())
    });
    named
}

fn lines(places: &[Place]) -> (LineProgram, HashMap<Rc<str>, FileId>) {
    let nowhere = LineString::String(Vec::new());
    let mut program = LineProgram::new(
        ENCODING,
        LineEncoding::default(),
        nowhere.clone(),
        None,
        nowhere,
        None,
    );
    let folder = program.default_directory();
    let mut files = HashMap::new();
    for frame in places.iter().flat_map(|place| &place.frames) {
        files.entry(frame.file.clone()).or_insert_with(|| {
            program.add_file(
                LineString::String(frame.file.as_bytes().into()),
                folder,
                None,
            )
        });
    }
    for sequence in places.chunk_by(|one, next| one.range.end == next.range.start) {
        let start = sequence[0].range.start;
        program.begin_sequence(Some(Address::Constant(start)));
        let rows = sequence.chunk_by(|one, next| told(one) == told(next));
        let mut end = start;
        for row in rows {
            let (file, line, column) = told(&row[0]);
            program.row().address_offset = row[0].range.start - start;
            program.row().file = files[file];
            program.row().line = line.into();
            program.row().column = column.into();
            program.generate_row();
            end = row[row.len() - 1].range.end;
        }
        program.end_sequence(end - start);
    }
    (program, files)
}

/// What the line table says of a place.
fn told(place: &Place) -> (&Rc<str>, u32, u32) {
    let frame = &place.frames[place.frames.len() - 1];
    (&frame.file, frame.line, frame.column)
}

struct Functions<'a> {
    unit: &'a mut Unit,
    files: HashMap<Rc<str>, FileId>,
    /// What is said once of each function that was inlined somewhere.
    inlined: HashMap<Rc<str>, UnitEntryId>,
}

impl Functions<'_> {
    fn write(&mut self, places: &[Place]) {
        let together = |one: &Place, next: &Place| {
            one.range.end == next.range.start
                && one.frames[0].function == next.frames[0].function
                && one.whole == next.whole
        };
        for function in places.chunk_by(together) {
            // Its name and lines are known without: the module has the name.
            if function
                .iter()
                .all(|place| place.whole && place.frames.len() == 1)
            {
                continue;
            }
            let root = self.unit.root();
            let entry = self.unit.add(root, DW_TAG_subprogram);
            self.set_name(entry, &function[0].frames[0]);
            set_range(
                self.unit,
                entry,
                &function[0],
                &function[function.len() - 1],
            );
            self.write_inlined(entry, function, 1);
        }
    }

    /// Writes what was inlined at this depth into the function, or what was inlined there, of an entry.
    fn write_inlined(&mut self, parent: UnitEntryId, places: &[Place], depth: usize) {
        let together = |one: &Place, next: &Place| {
            let function =
                |place: &Place| place.frames.get(depth).map(|frame| frame.function.clone());
            function(one) == function(next) && one.frames[depth - 1] == next.frames[depth - 1]
        };
        for call in places.chunk_by(together) {
            let Some(inlined) = call[0].frames.get(depth) else {
                continue;
            };
            let caller = &call[0].frames[depth - 1];
            let entry = self.unit.add(parent, DW_TAG_inlined_subroutine);
            if let Some(name) = &inlined.function {
                let origin = self.origin(name);
                let call = self.unit.get_mut(entry);
                call.set(DW_AT_abstract_origin, AttributeValue::UnitRef(origin));
            }
            set_range(self.unit, entry, &call[0], &call[call.len() - 1]);
            let file = self.files[&caller.file];
            let written = self.unit.get_mut(entry);
            written.set(DW_AT_call_file, AttributeValue::FileIndex(Some(file)));
            written.set(DW_AT_call_line, AttributeValue::Udata(caller.line.into()));
            written.set(
                DW_AT_call_column,
                AttributeValue::Udata(caller.column.into()),
            );
            self.write_inlined(entry, call, depth + 1);
        }
    }

    fn origin(&mut self, name: &Rc<str>) -> UnitEntryId {
        if let Some(known) = self.inlined.get(name) {
            return *known;
        }
        let root = self.unit.root();
        let entry = self.unit.add(root, DW_TAG_subprogram);
        let function = self.unit.get_mut(entry);
        function.set(DW_AT_name, AttributeValue::String(name.as_bytes().into()));
        function.set(DW_AT_inline, AttributeValue::Inline(DW_INL_inlined));
        self.inlined.insert(name.clone(), entry);
        entry
    }

    fn set_name(&mut self, entry: UnitEntryId, frame: &Frame) {
        if let Some(name) = &frame.function {
            let name = AttributeValue::String(name.as_bytes().into());
            self.unit.get_mut(entry).set(DW_AT_name, name);
        }
    }
}

fn set_range(unit: &mut Unit, entry: UnitEntryId, first: &Place, last: &Place) {
    let start = first.range.start;
    let entry = unit.get_mut(entry);
    entry.set(
        DW_AT_low_pc,
        AttributeValue::Address(Address::Constant(start)),
    );
    entry.set(DW_AT_high_pc, AttributeValue::Udata(last.range.end - start));
}

/// Version 4 has file names in the line program itself, and needs no section for ranges or strings.
const ENCODING: Encoding = Encoding {
    format: Format::Dwarf32,
    version: 4,
    address_size: 4,
};
