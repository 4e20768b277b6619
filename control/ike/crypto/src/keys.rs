//! Keys of an IKE SA and of its children (RFC 7296, sections 2.14, 2.17 and 2.18).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use hawser_ike_wire::IkeSpi;
use zeroize::Zeroizing;

use crate::protect::{DirectionKey, Opener, Sealer};
use crate::secret::Secret;
use crate::transform::{Cipher, IkeSuite, Integ};

/// A side of an IKE SA: of the SA itself its original initiator, of an exchange the side that began
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that began.
    Initiator,
    /// The side that answered.
    Responder,
}

impl Role {
    /// The other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// The nonces of the exchange whose keys are made.
#[derive(Clone, Copy, Debug)]
pub struct Nonces<'a> {
    /// Ni: of the side that began this exchange.
    pub initiator: &'a [u8],
    /// Nr: of the side that answered.
    pub responder: &'a [u8],
}

/// Keys of a Child SA, for each direction laid out as [`Cipher::key_material_len`] says.
pub struct ChildKeys {
    /// For packets from the initiator of the exchange to its responder.
    pub initiator_to_responder: Secret,
    /// For packets the other way.
    pub responder_to_initiator: Secret,
}

/// What belongs to one direction of the IKE SA.
struct Direction {
    key: Arc<DirectionKey>,
    /// SK_p: authenticates this side's identity.
    sk_p: Secret,
    /// How many messages were sealed. All sealers count here, so that none repeats a nonce.
    sealed: Arc<AtomicU64>,
}

/// The keys of an IKE SA.
pub struct IkeKeys {
    suite: IkeSuite,
    sk_d: Secret,
    initiator: Direction,
    responder: Direction,
}

impl IkeKeys {
    /// The keys of an IKE SA made by IKE_SA_INIT, from the Diffie-Hellman secret and what the
    /// exchange's messages say.
    #[must_use]
    pub fn derive(
        suite: IkeSuite,
        shared: &Secret,
        nonces: Nonces<'_>,
        spi_initiator: IkeSpi,
        spi_responder: IkeSpi,
    ) -> Self {
        let key = Zeroizing::new([nonces.initiator, nonces.responder].concat());
        let skeyseed = suite.prf.mac(&key, &[shared.expose()]);
        Self::expand(suite, &skeyseed, nonces, spi_initiator, spi_responder)
    }

    /// The keys of the IKE SA that replaces this one (RFC 7296, section 2.18). `suite`, nonces and
    /// SPIs are those of the CREATE_CHILD_SA exchange; its initiator is the new SA's.
    #[must_use]
    pub fn derive_rekey(
        &self,
        suite: IkeSuite,
        shared: &Secret,
        nonces: Nonces<'_>,
        spi_initiator: IkeSpi,
        spi_responder: IkeSpi,
    ) -> Self {
        // The seed by the old SA's function, the keys from it by the new one's.
        let skeyseed = self.suite.prf.mac(
            self.sk_d.expose(),
            &[shared.expose(), nonces.initiator, nonces.responder],
        );
        Self::expand(suite, &skeyseed, nonces, spi_initiator, spi_responder)
    }

    fn expand(
        suite: IkeSuite,
        skeyseed: &Secret,
        nonces: Nonces<'_>,
        spi_initiator: IkeSpi,
        spi_responder: IkeSpi,
    ) -> Self {
        let prf_len = suite.prf.key_len();
        let (encryption, integrity) = (suite.cipher.encryption_len(), suite.cipher.integrity_len());
        let seed = [
            nonces.initiator,
            nonces.responder,
            &spi_initiator.0.to_be_bytes(),
            &spi_responder.0.to_be_bytes(),
        ];
        let len = prf_len * 3 + (encryption + integrity) * 2;
        let stream = suite.prf.plus(skeyseed.expose(), &seed, len);
        let mut cutter = Cutter(stream.expose());
        let sk_d = cutter.take(prf_len);
        let (sk_ai, sk_ar) = (cutter.take(integrity), cutter.take(integrity));
        let (sk_ei, sk_er) = (cutter.take(encryption), cutter.take(encryption));
        let (sk_pi, sk_pr) = (cutter.take(prf_len), cutter.take(prf_len));
        let direction = |encryption, integrity, sk_p| Direction {
            key: Arc::new(DirectionKey::new(suite.cipher, encryption, integrity)),
            sk_p,
            sealed: Arc::default(),
        };
        Self {
            suite,
            sk_d,
            initiator: direction(sk_ei, sk_ai, sk_pi),
            responder: direction(sk_er, sk_ar, sk_pr),
        }
    }

    const fn direction(&self, sender: Role) -> &Direction {
        match sender {
            Role::Initiator => &self.initiator,
            Role::Responder => &self.responder,
        }
    }

    /// The algorithms that the keys are for.
    #[must_use]
    pub const fn suite(&self) -> IkeSuite {
        self.suite
    }

    /// Seals messages that `sender` sends, our own role in the IKE SA.
    #[must_use]
    pub fn sealer(&self, sender: Role) -> Sealer {
        let direction = self.direction(sender);
        Sealer::new(Arc::clone(&direction.key), Arc::clone(&direction.sealed))
    }

    /// Opens messages that `sender` sent, the peer's role in the IKE SA.
    #[must_use]
    pub fn opener(&self, sender: Role) -> Opener {
        Opener::new(Arc::clone(&self.direction(sender).key))
    }

    /// The keys of a Child SA (RFC 7296, section 2.17). `nonces` are those of the exchange that
    /// makes it: of IKE_SA_INIT for the first one, else of CREATE_CHILD_SA. `shared` is that
    /// exchange's own Diffie-Hellman secret, where it had one (perfect forward secrecy).
    #[must_use]
    pub fn child(&self, cipher: Cipher, shared: Option<&Secret>, nonces: Nonces<'_>) -> ChildKeys {
        let shared = shared.map_or(&[][..], Secret::expose);
        let seed = [shared, nonces.initiator, nonces.responder];
        let len = cipher.key_material_len();
        let keymat = self.suite.prf.plus(self.sk_d.expose(), &seed, len * 2);
        let mut cutter = Cutter(keymat.expose());
        ChildKeys {
            initiator_to_responder: cutter.take(len),
            responder_to_initiator: cutter.take(len),
        }
    }

    /// What `signer` authenticates (RFC 7296, section 2.15): its own IKE_SA_INIT message as it was
    /// sent, the other side's nonce, and its identity as
    /// [`Identification::body`](hawser_ike_wire::Identification::body) gives it.
    #[must_use]
    pub fn signed_octets(
        &self,
        signer: Role,
        init_message: &[u8],
        other_nonce: &[u8],
        identity: &[u8],
    ) -> Vec<u8> {
        let sk_p = &self.direction(signer).sk_p;
        let identity = self.suite.prf.mac(sk_p.expose(), &[identity]);
        [init_message, other_nonce, identity.expose()].concat()
    }

    /// A line of Wireshark's `ikev2_decryption_table`: whoever has it can read the IKE SA.
    #[must_use]
    pub fn key_log_line(&self, spi_initiator: IkeSpi, spi_responder: IkeSpi) -> Zeroizing<String> {
        let cipher = self.suite.cipher;
        let encryption = match (cipher.encr().is_aead(), cipher.encr().key_len()) {
            (true, 16) => "AES-GCM-128 with 16 octet ICV [RFC5282]",
            (true, _) => "AES-GCM-256 with 16 octet ICV [RFC5282]",
            (false, 16) => "AES-CBC-128 [RFC3602]",
            (false, _) => "AES-CBC-256 [RFC3602]",
        };
        let integrity = match cipher.integ() {
            None => "NONE [RFC4306]",
            Some(Integ::HmacSha1_96) => "HMAC_SHA1_96 [RFC2404]",
            Some(Integ::HmacSha2_256_128) => "HMAC_SHA2_256_128 [RFC4868]",
            Some(Integ::HmacSha2_384_192) => "HMAC_SHA2_384_192 [RFC4868]",
            Some(Integ::HmacSha2_512_256) => "HMAC_SHA2_512_256 [RFC4868]",
        };
        let hex = |secret: &Secret| {
            let mut out = Zeroizing::new(String::with_capacity(secret.len() * 2));
            for octet in secret.expose() {
                for digit in [octet >> 4, octet & 15] {
                    out.extend(char::from_digit(digit.into(), 16));
                }
            }
            out
        };
        let (i, r) = (&self.initiator.key, &self.responder.key);
        Zeroizing::new(format!(
            "{spi_initiator},{spi_responder},{},{},\"{encryption}\",{},{},\"{integrity}\"",
            *hex(i.encryption()),
            *hex(r.encryption()),
            *hex(i.integrity()),
            *hex(r.integrity()),
        ))
    }

    #[cfg(test)]
    pub(crate) fn key(&self, sender: Role) -> &DirectionKey {
        &self.direction(sender).key
    }

    /// SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi, SK_pr: for comparison with other implementations.
    #[cfg(test)]
    pub(crate) fn all(&self) -> [&Secret; 7] {
        let (i, r) = (&self.initiator, &self.responder);
        [
            &self.sk_d,
            i.key.integrity(),
            r.key.integrity(),
            i.key.encryption(),
            r.key.encryption(),
            &i.sk_p,
            &r.sk_p,
        ]
    }
}

/// Cuts keys off a stream that was made long enough for them.
struct Cutter<'a>(&'a [u8]);

impl Cutter<'_> {
    fn take(&mut self, len: usize) -> Secret {
        let (key, rest) = self.0.split_at(len);
        self.0 = rest;
        Secret::new(key.to_vec())
    }
}

#[cfg(test)]
pub(crate) mod tests;
