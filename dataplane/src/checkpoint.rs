//! Sequence numbers that survive a crash.
//!
//! With AES-GCM a sequence number used twice under one key gives the key away (RFC 4106, section
//! 9), and manual keys outlive the process. So outbound SAs work on leases: before a number is
//! used, a number beyond it has been written here, and a restarted data plane begins after that.
//! For inbound SAs the top of the replay window is written now and then, so that a restart does
//! not accept old packets again; those since the last write could be replayed (at most one
//! interval of the manager's clock).
//!
//! The file is a header and one fixed record an SA, each written by one `pwrite`. That survives
//! the death of either process. It does not promise to survive a power cut, where the last writes
//! may be lost: use new manual keys then (IKE makes new ones anyway).
//!
//! Records carry a fingerprint of the key, so that new keys under an old SPI start afresh. Records
//! of manual keys are never removed: a key that was taken out of the configuration may come back,
//! and a record is 32 bytes. Keys of a key exchange never come back; their records are used again
//! once the SA is gone.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use hawser_api::{InboundSa, OutboundSa, Secret, Spi};
use sha2::{Digest, Sha256};

/// Numbers in a lease. Unit: packets. At 10 million packets a second an SA has 0.4 s before it
/// must be extended, eight times the manager's interval; a crash skips at most this many of the
/// 4.29e9 numbers that an SA without ESN has. Too small: packets drop as `sequence_exhausted`
/// when the manager is late. Too large: frequent crashes use up the SA.
pub const LEASE: u64 = 1 << 22;

/// Records of SAs that are gone before they are used again. Unit: records. Each sweep looks at all
/// SAs, so a few rekeys should share one.
const SWEEP: usize = 256;

const MAGIC: &[u8; 8] = b"HAWSER\0\x01";
const RECORD: usize = 32;

/// Which SA a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SaKey {
    outbound: bool,
    spi: Spi,
    /// Truncated SHA-256 of the key material: tells keys apart, gives nothing of them away.
    fingerprint: [u8; 8],
    /// Never comes back once the SA is gone.
    transient: bool,
}

impl SaKey {
    /// The identity of an outbound SA.
    #[must_use]
    pub fn outbound(sa: &OutboundSa) -> Self {
        Self {
            outbound: true,
            spi: sa.spi,
            fingerprint: fingerprint(&sa.key),
            transient: sa.transient,
        }
    }

    /// The identity of an inbound SA.
    #[must_use]
    pub fn inbound(sa: &InboundSa) -> Self {
        Self {
            outbound: false,
            spi: sa.spi,
            fingerprint: fingerprint(&sa.key),
            transient: sa.transient,
        }
    }
}

fn fingerprint(key: &Secret) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(b"hawser checkpoint");
    hash.update(key.expose());
    let digest = hash.finalize();
    let mut out = [0; 8];
    out.copy_from_slice(&digest[..8]);
    out
}

/// The checkpoint file.
#[derive(Debug)]
pub struct Checkpoint {
    file: File,
    slots: HashMap<SaKey, (u64, u64)>,
    next_slot: u64,
    /// Slots whose SAs are gone for good.
    free: Vec<u64>,
    /// Transient SAs that this process wrote down. Those of an earlier process may yet be put
    /// again by control, so only these are ever forgotten.
    written: HashSet<SaKey>,
    /// How many of them there must be before it is worth looking which are gone.
    next_sweep: usize,
}

impl Checkpoint {
    /// Opens the file or makes it (mode 0600).
    ///
    /// # Errors
    /// When it cannot be opened, or is not a checkpoint file: it is then left as it is.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let len = file.metadata()?.len();
        let mut checkpoint = Self {
            file,
            slots: HashMap::new(),
            next_slot: 0,
            free: Vec::new(),
            written: HashSet::new(),
            next_sweep: SWEEP,
        };
        if len == 0 {
            checkpoint.file.write_all_at(MAGIC, 0)?;
        } else {
            checkpoint.read(len, path)?;
        }
        Ok(checkpoint)
    }

    fn read(&mut self, len: u64, path: &Path) -> io::Result<()> {
        let mut magic = [0; 8];
        self.file.read_exact_at(&mut magic, 0)?;
        if &magic != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is not a checkpoint file: move it away", path.display()),
            ));
        }
        let mut record = [0; RECORD];
        for slot in 0..(len - MAGIC.len() as u64) / RECORD as u64 {
            self.file.read_exact_at(&mut record, offset(slot))?;
            match decode(&record) {
                Some((key, value)) => drop(self.slots.insert(key, (slot, value))),
                None => self.free.push(slot),
            }
            self.next_slot = slot + 1;
        }
        Ok(())
    }

    /// The number last written for this SA.
    #[must_use]
    pub fn get(&self, key: &SaKey) -> Option<u64> {
        self.slots.get(key).map(|&(_, value)| value)
    }

    /// Writes the number for this SA; on return the kernel has it.
    ///
    /// # Errors
    /// When it cannot be written: the number must then not be used.
    pub fn put(&mut self, key: SaKey, value: u64) -> io::Result<()> {
        let known = self.slots.get(&key).copied();
        let slot = match known {
            Some((_, old)) if old == value => return Ok(()),
            Some((slot, _)) => slot,
            None => self.free.last().copied().unwrap_or(self.next_slot),
        };
        self.file.write_all_at(&encode(&key, value), offset(slot))?;
        if known.is_none() {
            self.free.pop();
        }
        self.next_slot = self.next_slot.max(slot + 1);
        self.slots.insert(key, (slot, value));
        if key.transient {
            self.written.insert(key);
        }
        Ok(())
    }

    /// Forgets transient SAs that are not among those that exist, when there are enough of them
    /// to be worth the look. A record that cannot be overwritten is kept.
    pub fn forget_transient(&mut self, existing: impl FnOnce() -> HashSet<SaKey>) {
        if self.written.len() < self.next_sweep {
            return;
        }
        let existing = existing();
        let gone: Vec<SaKey> = self.written.difference(&existing).copied().collect();
        for key in gone {
            let Some(&(slot, _)) = self.slots.get(&key) else {
                continue;
            };
            if let Err(error) = self.file.write_all_at(&[0; RECORD], offset(slot)) {
                tracing::error!(%error, "cannot write the checkpoint file");
                break;
            }
            self.slots.remove(&key);
            self.written.remove(&key);
            self.free.push(slot);
        }
        self.next_sweep = self.written.len() + SWEEP;
    }
}

fn offset(slot: u64) -> u64 {
    MAGIC.len() as u64 + slot * RECORD as u64
}

fn encode(key: &SaKey, value: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[0] = if key.outbound { 1 } else { 2 };
    record[1] = u8::from(key.transient);
    record[4..8].copy_from_slice(&key.spi.0.to_be_bytes());
    record[8..16].copy_from_slice(&key.fingerprint);
    record[16..24].copy_from_slice(&value.to_be_bytes());
    let check = check(&record);
    record[24..32].copy_from_slice(&check);
    record
}

/// `None` for a record that was never written whole.
fn decode(record: &[u8; RECORD]) -> Option<(SaKey, u64)> {
    if record[24..32] != check(record) {
        return None;
    }
    let outbound = match record[0] {
        1 => true,
        2 => false,
        _ => return None,
    };
    let spi = Spi(u32::from_be_bytes(record[4..8].try_into().ok()?));
    let fingerprint = record[8..16].try_into().ok()?;
    let value = u64::from_be_bytes(record[16..24].try_into().ok()?);
    Some((
        SaKey {
            outbound,
            spi,
            fingerprint,
            transient: record[1] != 0,
        },
        value,
    ))
}

fn check(record: &[u8; RECORD]) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(&Sha256::digest(&record[..24])[..8]);
    out
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use hawser_aead::Suite;
    use hawser_api::{Selectors, TunnelId};

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("hawser-checkpoint-{name}-{}", std::process::id()))
    }

    fn sa(byte: u8, transient: bool) -> OutboundSa {
        OutboundSa {
            tunnel: TunnelId(0),
            spi: Spi(0x1000),
            suite: Suite::Aes128Gcm16,
            key: Secret::new(vec![byte; 20]),
            esn: false,
            selectors: Selectors::default(),
            transient,
        }
    }

    fn key(byte: u8) -> SaKey {
        SaKey::outbound(&sa(byte, false))
    }

    #[test]
    fn survives_reopening_and_tells_keys_apart() {
        let path = scratch("reopen");
        let _ = std::fs::remove_file(&path);
        let inbound = SaKey {
            outbound: false,
            ..key(1)
        };
        {
            let mut checkpoint = Checkpoint::open(&path).unwrap();
            checkpoint.put(key(1), 100).unwrap();
            checkpoint.put(key(1), 200).unwrap();
            checkpoint.put(inbound, 7).unwrap();
        }
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.get(&key(1)), Some(200));
        assert_eq!(checkpoint.get(&inbound), Some(7));
        assert_eq!(
            checkpoint.get(&key(2)),
            None,
            "new keys under an old SPI start afresh"
        );
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_damaged_record_is_not_believed() {
        let path = scratch("damaged");
        let _ = std::fs::remove_file(&path);
        Checkpoint::open(&path).unwrap().put(key(1), 100).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff], offset(0) + 20).unwrap();
        let mut checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.get(&key(1)), None);
        checkpoint.put(key(1), 5).unwrap();
        assert_eq!(Checkpoint::open(&path).unwrap().get(&key(1)), Some(5));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_foreign_file_is_refused_and_left_alone() {
        let path = scratch("foreign");
        std::fs::write(&path, b"something else").unwrap();
        assert!(Checkpoint::open(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"something else");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn records_of_transient_sas_are_used_again_and_those_of_manual_keys_are_not() {
        let path = scratch("transient");
        let _ = std::fs::remove_file(&path);
        let mut checkpoint = Checkpoint::open(&path).unwrap();
        checkpoint.put(key(1), 100).unwrap();
        let transient = |n: u32| {
            let mut sa = sa(7, true);
            sa.spi = Spi(0x2000 + n);
            SaKey::outbound(&sa)
        };
        // Rekeyed again and again: one exists at a time.
        for n in 0..10_000 {
            checkpoint.put(transient(n), u64::from(n)).unwrap();
            checkpoint.forget_transient(|| HashSet::from([transient(n)]));
        }
        let records = (std::fs::metadata(&path).unwrap().len() as usize - MAGIC.len()) / RECORD;
        assert!(records <= 2 * SWEEP, "{records} records");
        assert_eq!(checkpoint.get(&transient(9_999)), Some(9_999));
        assert_eq!(checkpoint.get(&key(1)), Some(100));
        // What an earlier process wrote is not forgotten: control may put it again.
        let mut checkpoint = Checkpoint::open(&path).unwrap();
        for n in 20_000..21_000 {
            checkpoint.put(transient(n), 1).unwrap();
            checkpoint.forget_transient(HashSet::new);
        }
        assert_eq!(checkpoint.get(&transient(9_999)), Some(9_999));
        assert_eq!(checkpoint.get(&key(1)), Some(100));
        std::fs::remove_file(&path).unwrap();
    }
}
