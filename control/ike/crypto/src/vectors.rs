//! The known answers that `tests/vectors/generate.py` wrote, and NIST's.

use std::collections::BTreeMap;

/// Octets of hexadecimal digits.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2));
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// A record: names and values.
pub(crate) struct Record(BTreeMap<&'static str, &'static str>);

impl Record {
    pub(crate) fn text(&self, name: &str) -> &'static str {
        self.0[name]
    }

    pub(crate) fn find(&self, name: &str) -> Option<&'static str> {
        self.0.get(name).copied()
    }

    pub(crate) fn octets(&self, name: &str) -> Vec<u8> {
        hex(self.0[name])
    }

    pub(crate) fn u64(&self, name: &str) -> u64 {
        u64::from_be_bytes(self.octets(name).try_into().expect("eight octets"))
    }
}

/// All records of a kind; never none.
pub(crate) fn records(kind: &str) -> Vec<Record> {
    let all = concat!(
        include_str!("../tests/vectors/known_answers.txt"),
        "\n\n",
        include_str!("../tests/vectors/nist_cavp_ikev2_kdf.txt"),
    );
    let heading = format!("[{kind}]");
    let records: Vec<Record> = all
        .split("\n\n")
        .filter_map(|record| record.trim().strip_prefix(&heading))
        .map(|record| {
            let lines = record.trim().lines();
            let pairs = lines.map(|line| line.split_once(" = ").expect("a name and a value"));
            Record(pairs.collect())
        })
        .collect();
    assert!(!records.is_empty());
    records
}

/// A source that gives the same octets over and over.
pub(crate) struct Fixed(pub(crate) Vec<u8>);

impl crate::Random for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        for (octet, fixed) in out.iter_mut().zip(self.0.iter().cycle()) {
            *octet = *fixed;
        }
    }
}

/// A file that `tests/vectors/certificates.py` made.
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/certificates/",
            $name
        ))
    };
}

pub(crate) use fixture;

/// A signature of `signatures.txt`, or what was signed (`octets`).
pub(crate) fn signature(name: &str) -> Vec<u8> {
    let text = std::str::from_utf8(fixture!("signatures.txt")).expect("text");
    let mut pairs = text.lines().filter_map(|line| line.split_once(" = "));
    let found = pairs.find(|(other, _)| *other == name);
    hex(found.expect("a known name").1)
}
