use std::io::Read;

/// Counts lines, words and bytes.
fn count(text: &str) -> (usize, usize, usize) {
    (text.lines().count(), text.split_whitespace().count(), text.len())
}

fn main() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("standard input is text");
    let (lines, words, bytes) = count(&text);
    println!("{lines} {words} {bytes}");
}

#[test]
fn counts() {
    assert_eq!(count("a b\nc\n"), (2, 3, 6));
}
