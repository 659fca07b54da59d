//! The log format, by table and by law.

use proptest::prelude::*;

use super::log::{MAX_ENTRY_BYTES, Stream, split};

const NOW: i64 = 1_500_000_000_000_000_042;

fn entries(pieces: &[&[u8]]) -> (String, String) {
    let (mut unfinished, mut entries) = (Vec::new(), Vec::new());
    for piece in pieces {
        split(&mut unfinished, Stream::Stdout, piece, NOW, &mut entries);
    }
    (
        String::from_utf8(entries).unwrap(),
        String::from_utf8(unfinished).unwrap(),
    )
}

#[test]
fn lines_become_entries() {
    let (written, unfinished) = entries(&[b"one\ntw", b"o\n\nthr"]);
    expect_test::expect![[r#"
        2017-07-14T02:40:00.000000042Z stdout F one
        2017-07-14T02:40:00.000000042Z stdout F two
        2017-07-14T02:40:00.000000042Z stdout F 
    "#]]
    .assert_eq(&written);
    assert_eq!(unfinished, "thr");
}

#[test]
fn a_long_line_is_written_in_parts() {
    let line = "x".repeat(2 * MAX_ENTRY_BYTES + 5) + "\n";
    let (written, unfinished) = entries(&[line.as_bytes()]);
    let tags: Vec<_> = written
        .lines()
        .map(|entry| entry.split(' ').nth(2).unwrap())
        .collect();
    assert_eq!(
        (tags.as_slice(), unfinished.as_str()),
        (["P", "P", "F"].as_slice(), "")
    );
}

proptest! {
    /// However output is cut, the log says the same, and nothing is lost or held back but an
    /// unfinished line.
    #[test]
    fn cuts_do_not_show(text in "[a-c\n]{0,200}", cuts in prop::collection::vec(0usize..200, 0..5)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> =
            cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        let whole = entries(&[text.as_bytes()]);
        let cut = entries(&pieces);
        prop_assert_eq!(&cut, &whole);
        let said: String =
            cut.0.lines().map(|entry| format!("{}\n", entry.splitn(4, ' ').nth(3).unwrap())).collect();
        prop_assert_eq!(said + &cut.1, text);
    }
}
