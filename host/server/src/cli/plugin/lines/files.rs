//! Which files are the author's, and how they are called.

use std::path::{Component, Path, PathBuf};

use super::super::manifest::Manifest;

/// The files in a plugin's folder, but for what is made there.
pub struct Files {
    folder: PathBuf,
    made: PathBuf,
    name: String,
}

impl Files {
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            folder: manifest.folder.clone(),
            made: manifest.build_folder(),
            name: manifest.name.clone(),
        }
    }

    /// What a file is called in a stack: `guard/src/lib.rs`, wherever the plugin's folder is; none if it is not in there.
    ///
    /// A path that is not absolute begins, as far as compilers say, in a folder that they call `.`: the author's, or that in
    /// which a library was once built.
    pub fn called(&self, path: &str) -> Option<String> {
        let path = normal(Path::new(path));
        let inside = match path.is_absolute() {
            true => path.strip_prefix(&self.folder).ok()?,
            false => &path,
        };
        let path = self.folder.join(inside);
        let there = !path.starts_with(&self.made) && path.is_file();
        there.then(|| format!("{}/{}", self.name, inside.display()))
    }
}

/// The path without `.` and `..` in it.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_by_the_plugins_name_wherever_its_folder_is() {
        let folder = tempfile::tempdir().unwrap();
        for place in ["src", "build"] {
            std::fs::create_dir(folder.path().join(place)).unwrap();
            std::fs::write(folder.path().join(place).join("lib.rs"), "").unwrap();
        }
        let files = Files {
            folder: folder.path().to_owned(),
            made: folder.path().join("build"),
            name: "guard".into(),
        };
        let absolute = folder.path().join("./build/../src/lib.rs");
        for (path, called) in [
            (absolute.to_str().unwrap(), Some("guard/src/lib.rs")),
            ("./src/lib.rs", Some("guard/src/lib.rs")),
            ("./src/malloc.c", None),
            ("build/lib.rs", None),
            ("/rustc/0123/library/core/src/option.rs", None),
            ("../../src/lib.rs/..", None),
            ("", None),
        ] {
            assert_eq!(files.called(path).as_deref(), called, "{path}");
        }
    }
}
