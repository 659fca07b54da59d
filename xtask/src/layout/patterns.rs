//! The linker's patterns for the functions that ran: as few as possible that hold little else.
//!
//! Names end in a hash that another version of a dependency or of the compiler changes, so patterns leave it out; and where
//! most of a module ran, one pattern stands for all of it.

use std::collections::BTreeMap;

/// A function: the pattern of its files, its name as the linker knows it, its size, whether it ran.
pub(super) type Seen<'a> = (&'a str, &'a str, u64, bool);

/// Of what a pattern holds, this part must have run, in percent: of a function's versions for other types in one crate, and
/// of all functions of a module. A function that stays behind costs the 64 KiB around it, so it takes many others to make
/// a pattern a bad one.
const VERSIONS: u64 = 1;
const MODULE: u64 = 50;

/// The patterns, how many bytes they hold of what ran and of everything, and which functions, by their place in the list.
#[derive(Default)]
pub(super) struct Patterns {
    pub(super) lines: Vec<String>,
    pub(super) ran: u64,
    pub(super) all: u64,
    pub(super) taken: Vec<usize>,
}

/// Functions by the parts of their paths.
#[derive(Default)]
struct Node {
    children: BTreeMap<String, Node>,
    /// Those whose path ends here.
    own: Bytes,
    /// Those and all below.
    below: Bytes,
}

#[derive(Default, Clone)]
struct Bytes {
    ran: u64,
    all: u64,
    functions: Vec<usize>,
}

impl Bytes {
    fn add(&mut self, index: usize, size: u64, ran: bool) {
        self.functions.push(index);
        self.all += size;
        if ran {
            self.ran += size;
        }
    }

    fn is_mostly(&self, percent: u64) -> bool {
        self.ran > 0 && self.ran * 100 >= self.all * percent
    }
}

/// The functions of some files.
#[derive(Default)]
struct Files {
    paths: Node,
    /// Names that are no Rust paths, as patterns.
    others: BTreeMap<String, Bytes>,
}

/// Chooses them.
pub(super) fn of<'a>(functions: impl Iterator<Item = Seen<'a>>) -> Patterns {
    let mut all: BTreeMap<&str, Files> = BTreeMap::new();
    for (index, (files, name, size, ran)) in functions.enumerate() {
        let files = all.entry(files).or_default();
        match path(name) {
            Some(path) => files.paths.add(&path, index, size, ran),
            None => files
                .others
                .entry(stable(name))
                .or_default()
                .add(index, size, ran),
        }
    }
    let mut out = Patterns::default();
    for (pattern, files) in all {
        let begin = out.lines.len();
        files.choose(&mut out);
        if out.lines.len() > begin {
            out.lines.insert(begin, format!("{pattern}("));
            out.lines.push(")".to_owned());
        }
    }
    out
}

impl Files {
    fn choose(self, out: &mut Patterns) {
        for (part, node) in &self.paths.children {
            node.choose(&format!("_ZN{}{part}", part.len()), out);
        }
        for (name, bytes) in self.others {
            if bytes.is_mostly(VERSIONS) {
                out.take(name, &bytes);
            }
        }
    }
}

impl Patterns {
    fn take(&mut self, name: String, bytes: &Bytes) {
        self.lines.push(format!("  .text.{name}"));
        self.ran += bytes.ran;
        self.all += bytes.all;
        self.taken.extend(&bytes.functions);
    }
}

impl Node {
    fn add(&mut self, path: &[&str], index: usize, size: u64, ran: bool) {
        self.below.add(index, size, ran);
        match path.split_first() {
            None => self.own.add(index, size, ran),
            Some((part, rest)) => {
                let child = self.children.entry((*part).to_owned()).or_default();
                child.add(rest, index, size, ran);
            }
        }
    }

    fn choose(&self, prefix: &str, out: &mut Patterns) {
        if self.below.is_mostly(MODULE) && !self.children.is_empty() {
            return out.take(format!("{prefix}*"), &self.below);
        }
        if self.own.is_mostly(VERSIONS) {
            out.take(format!("{prefix}17h*"), &self.own);
        }
        for (part, node) in &self.children {
            node.choose(&format!("{prefix}{}{part}", part.len()), out);
        }
    }
}

/// The parts of a Rust path, without the hash; none if the name is no such path.
fn path(name: &str) -> Option<Vec<&str>> {
    let mut rest = name.strip_prefix("_ZN")?;
    let mut parts = Vec::new();
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let length: usize = rest.get(..digits)?.parse().ok()?;
        let part = rest.get(digits..digits + length)?;
        rest = &rest[digits + length..];
        if rest.starts_with('E') {
            // The last one is the hash.
            return (part.len() == 17 && part.starts_with('h')).then_some(parts);
        }
        parts.push(part);
    }
}

/// A name of the newer form, in which every crate has its hash in front: `Cs1a2B3_4core`.
fn stable(name: &str) -> String {
    if !name.starts_with("_R") {
        return name.to_owned();
    }
    let mut out = String::new();
    let mut rest = name;
    while let Some(at) = rest.find("Cs") {
        let (before, crate_name) = rest.split_at(at + 2);
        out.push_str(before);
        let hash = crate_name.bytes().take_while(u8::is_ascii_alphanumeric);
        let hash = hash.count();
        rest = crate_name;
        if crate_name[hash..].starts_with('_') {
            out.push('*');
            rest = &crate_name[hash..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn modules_that_run_are_one_pattern_and_versions_that_do_not_are_left_out() {
        let h = "17h0123456789abcdefE";
        let (api, std) = ("*/libapi-*.rlib:*", "*/libstd-*.rlib:*");
        let names = [
            (api, format!("_ZN3api4core3pod{h}"), 80, true),
            (api, format!("_ZN3api4core4node{h}"), 20, false),
            (api, format!("_ZN3api4apps3set{h}"), 10, true),
            (api, format!("_ZN3api4apps3set{h}.llvm.1"), 1990, false),
            (api, format!("_ZN3api4main{h}"), 10, true),
            (std, "_RNvNtCs4X4t_3std2io5print".to_owned(), 10, true),
            (std, "memcpy".to_owned(), 10, false),
            ("*/main-*.o", "main".to_owned(), 10, false),
        ];
        let seen = names.iter();
        let found = of(seen.map(|(files, name, size, ran)| (*files, &**name, *size, *ran)));
        let lines = [
            "*/libapi-*.rlib:*(",
            "  .text._ZN3api4core*",
            "  .text._ZN3api4main17h*",
            ")",
            "*/libstd-*.rlib:*(",
            "  .text._RNvNtCs*_3std2io5print",
            ")",
        ];
        assert_eq!(found.lines, lines);
        assert_eq!((found.ran, found.all), (100, 120));
        assert_eq!(found.taken, [0, 1, 4, 5]);
    }
}
