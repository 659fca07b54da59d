//! The functions of a program, as the linker's map tells them: each has a section of its own.

use anyhow::ensure;

/// A function of the program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Where its code begins, counted from where the program is loaded.
    pub(super) address: u64,
    pub(super) size: u64,
    /// Which files the linker took it from, as its pattern: `*/libtokio-*.rlib:*`.
    pub(super) files: String,
    /// The name of its section without `.text.`.
    pub(super) name: String,
}

/// All functions of a map that lld wrote, by address; those without code left out.
pub(super) fn functions(map: &str) -> anyhow::Result<Vec<Function>> {
    let mut out: Vec<Function> = map.lines().filter_map(function).collect();
    ensure!(!out.is_empty(), "the linker's map knows no function");
    out.sort_by_key(|function| function.address);
    Ok(out)
}

/// A line is `address address size alignment file:(section)`, the numbers in hexadecimal digits.
fn function(line: &str) -> Option<Function> {
    let (place, name) = line.strip_suffix(')')?.split_once(":(.text.")?;
    let mut words = place.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let size = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    let files = files(words.nth(1)?);
    (size > 0).then(|| Function {
        address,
        size,
        files,
        name: name.to_owned(),
    })
}

/// `/a/libtokio-1a2b.rlib(tokio-1a2b.tokio.3c.o)` is of an archive, `/a/oxikube-1a2b.oxikube.3c.o` is not.
fn files(path: &str) -> String {
    let (file, member) = match path.split_once('(') {
        Some((archive, _)) => (archive, ":*"),
        None => (path, ""),
    };
    let file = file.rsplit_once('/').map_or(file, |(_, name)| name);
    let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
    match file.split_once('-') {
        Some((name, _)) => format!("*/{name}-*.{ending}{member}"),
        None => format!("*/{file}{member}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Function, functions};

    #[test]
    fn a_map_tells_where_functions_lie_and_of_which_crate_they_are() {
        let map = "  VMA  LMA  Size Align Out In Symbol\n\
             13da0 13da0 3d473 16 .text\n\
             13e60 13e60   12a 16         /t/libtokio-1a2b.rlib(tokio-1a.c-cgu.0.o):(.text._ZN1a1b17h01E)\n\
             13e60 13e60   12a  1                 _ZN1a1b17h01E\n\
             13da0 13da0    b8 16         /t/oxikube-1a.oxikube.2-cgu.1.o:(.text._ZN7oxikube17h2E)\n\
             13da0 13da0     0 16         /t/oxikube-1a.oxikube.2-cgu.1.o:(.text.empty)\n";
        let function = |address, size, files: &str, name: &str| Function {
            address,
            size,
            files: files.to_owned(),
            name: name.to_owned(),
        };
        let expected = [
            function(0x13da0, 0xb8, "*/oxikube-*.o", "_ZN7oxikube17h2E"),
            function(0x13e60, 0x12a, "*/libtokio-*.rlib:*", "_ZN1a1b17h01E"),
        ];
        assert_eq!(functions(map).unwrap(), expected);
    }
}
