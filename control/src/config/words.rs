//! Words in messages: lists of them, and which one may have been meant.

/// The words in backquotes, separated by commas.
#[must_use]
pub(super) fn listed(words: &[&str]) -> String {
    words
        .iter()
        .map(|w| format!("`{w}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `did you mean X? ` when a known word is near, otherwise nothing.
#[must_use]
pub fn did_you_mean(word: &str, known: &[&str]) -> String {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|k| (distance(word, k), *k))
        .filter(|(d, k)| *d <= limit || (word.len() >= 3 && k.starts_with(word)))
        .min()
        .map_or_else(String::new, |(_, k)| format!("did you mean `{k}`? "))
}

/// Edits (insert, delete, replace, swap neighbours) from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_proposed_and_far_ones_are_not() {
        assert_eq!(
            did_you_mean("remot", &["remote", "local"]),
            "did you mean `remote`? "
        );
        assert_eq!(
            did_you_mean("lcoal", &["remote", "local"]),
            "did you mean `local`? "
        );
        assert_eq!(
            did_you_mean("encap", &["encapsulation"]),
            "did you mean `encapsulation`? "
        );
        assert_eq!(did_you_mean("colour", &["remote", "local"]), "");
    }
}
