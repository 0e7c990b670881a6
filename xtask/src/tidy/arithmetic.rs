//! Each calculation in `docs/SCALING.md` comes out: `` `1,389 × 10 / 76,000 = 0.18 cores` ``, with words for units.

use super::Tree;

/// The document.
const DOCUMENT: &str = "docs/SCALING.md";
/// How far a rounded result may lie off, as a part of it.
const ROUNDED: f64 = 0.05;

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let Some(document) = tree.file(DOCUMENT) else { return Vec::new() };
    let wrong = calculations(&document.text).filter(|calculation| !holds(calculation));
    wrong.map(|calculation| format!("{DOCUMENT}: `{calculation}` does not come out")).collect()
}

/// The pieces of code with an equals sign.
fn calculations(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|code| code.contains(" = "))
}

fn holds(calculation: &str) -> bool {
    let Some((left, right)) = calculation.rsplit_once(" = ") else { return false };
    let (Some(result), Some(told)) = (sum(left), sum(right)) else { return false };
    (result - told).abs() <= told.abs() * ROUNDED
}

/// Products, added.
fn sum(text: &str) -> Option<f64> {
    text.split(" + ").map(product).sum()
}

/// Numbers, multiplied and divided from left to right.
fn product(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace().filter(|word| is_number(word) || ["×", "/"].contains(word));
    let mut result = number(words.next()?)?;
    while let Some(operator) = words.next() {
        let operand = number(words.next()?)?;
        result = if operator == "×" { result * operand } else { result / operand };
    }
    Some(result)
}

fn is_number(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
}

fn number(word: &str) -> Option<f64> {
    word.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b5_06_every_calculation_of_the_document_comes_out() {
        let text = std::fs::read_to_string(crate::root().join(DOCUMENT)).expect(DOCUMENT);
        let wrong: Vec<&str> = calculations(&text).filter(|calculation| !holds(calculation)).collect();
        assert_eq!(wrong, Vec::<&str>::new());
        assert!(calculations(&text).count() >= 20, "the document shows its arithmetic");
    }

    #[test]
    fn what_does_not_come_out_is_a_breach() {
        let holds = |calculation: &str| check(&Tree::of(&[(DOCUMENT, &format!("So `{calculation}`.\n"))])).is_empty();
        assert!(holds("1,000,000 users × 50 / 86,400 s = 579 messages/s"));
        assert!(holds("2 × 3 + 4 × 5 = 26"));
        assert!(!holds("1,000 × 3 = 2,000"));
        assert!(!holds("1,000 × = 1,000"));
        assert!(!holds("a lot = 3"));
    }
}
