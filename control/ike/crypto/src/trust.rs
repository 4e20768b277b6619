//! Whether a peer's certificate is to be believed: its chain, its time, its revocation, its name.
//!
//! Chains are built and verified by rustls-webpki (RFC 5280, section 6), which knows TLS's usages
//! only; what IKE accepts is our own rule ([`Usage`]). What webpki says is turned into a sentence
//! that names the certificate, and what it leaves open is added here: the time of the trust anchor
//! itself, the identity (RFC 4945, section 3.1), and a peer's own certificate that was configured
//! as trusted.
//!
//! Every configured certificate of an authority is a trust anchor, subordinate ones too. Known
//! limits: no OCSP, no fetching of anything, RSA keys of authorities from 2,048 bits, no SHA-1
//! under a certificate.

mod error;

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use hawser_ike_wire as wire;
use hawser_ike_wire::{Authentication, CertificateEncoding, Identity};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, BorrowedCertRevocationList, CertRevocationList, EndEntityCert,
    ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use crate::certificate::{Certificate, PublicKey, date};
use crate::name;
use crate::signature::{self, SignatureError, SignaturePolicy};

pub use error::{CertificateError, LoadError};

/// How many certificates of one peer are looked at.
///
/// Unit: certificates. Real chains have two to four. Too small refuses a deep hierarchy; too large
/// lets an unauthenticated peer make us verify more signatures.
pub const MAX_CERTIFICATES: usize = 10;

/// What is asked of a peer's certificate beyond the rules that always hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrustPolicy {
    /// Every certificate of the chain must be covered by a current revocation list. Otherwise a
    /// missing list says nothing, and one that is out of date is still used.
    pub strict_revocation: bool,
}

/// A peer's certificate that was verified: now the peer must show that it has its key.
#[derive(Debug)]
pub struct PeerCertificate {
    subject: String,
    key: PublicKey,
    not_after: i64,
}

impl PeerCertificate {
    /// The subject's name, for people.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When it expires.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        let seconds = u64::try_from(self.not_after).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Whether `auth` is this certificate's signature over `octets`
    /// ([`IkeKeys::signed_octets`](crate::IkeKeys::signed_octets)).
    ///
    /// # Errors
    /// Another method, an algorithm that is not accepted, or a signature by another key.
    pub fn verify(
        &self,
        auth: &Authentication,
        octets: &[u8],
        policy: SignaturePolicy,
    ) -> Result<(), SignatureError> {
        signature::verify(&self.key, auth, octets, policy)
    }
}

/// What IKE accepts as extended key usage. RFC 4945, section 5.1.3.12, asks for ipsecIKE or any;
/// authorities in the field also issue for TLS, for the old IPsec usages, and without any.
struct Usage;

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        // id-kp: serverAuth, clientAuth, ipsecEndSystem, ipsecTunnel, ipsecUser, ipsecIKE.
        const KEY_PURPOSE: [usize; 8] = [1, 3, 6, 1, 5, 5, 7, 3];
        const PURPOSES: [usize; 6] = [1, 2, 5, 6, 7, 17];
        const ANY: [usize; 5] = [2, 5, 29, 37, 0];
        const IKE_INTERMEDIATE: [usize; 9] = [1, 3, 6, 1, 5, 5, 8, 2, 2];
        let mut none = true;
        for usage in usages {
            none = false;
            let oid = usage?.to_decoded_oid();
            let purpose = oid.strip_prefix(&KEY_PURPOSE);
            if oid == ANY
                || oid == IKE_INTERMEDIATE
                || matches!(purpose, Some([last]) if PURPOSES.contains(last))
            {
                return Ok(());
            }
        }
        if none {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(
            webpki::RequiredEkuNotFoundContext {
                required: webpki::KeyUsage::client_auth(),
                present: Vec::new(),
            },
        ))
    }
}

/// The authorities that are trusted, and their revocation lists.
#[derive(Default)]
pub struct TrustAnchors {
    certificates: Vec<Certificate>,
    anchors: Vec<TrustAnchor<'static>>,
    crls: Vec<CertRevocationList<'static>>,
}

impl TrustAnchors {
    /// Nobody is trusted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the certificates of a file, PEM or DER, and says how many there were. An authority's
    /// becomes a trust anchor; any other is trusted as a peer's own.
    ///
    /// # Errors
    /// A file without a certificate, or with one that cannot be read.
    pub fn add(&mut self, file: &[u8]) -> Result<usize, LoadError> {
        let ders = certificates(file)?;
        for (number, der) in (1..).zip(&ders) {
            let unreadable = |why| LoadError::Certificate { number, why };
            let certificate = Certificate::parse(der).map_err(unreadable)?;
            if certificate.is_authority {
                let der = CertificateDer::from(der.as_slice());
                let anchor = webpki::anchor_from_trusted_cert(&der);
                let anchor = anchor.map_err(|error| unreadable(format!("{error:?}")))?;
                self.anchors.push(anchor.to_owned());
            }
            self.certificates.push(certificate);
        }
        Ok(ders.len())
    }

    /// Adds the revocation lists of a file, PEM or DER, and says how many there were. Their
    /// signatures are checked when they are used.
    ///
    /// # Errors
    /// A file without a list, or with one that cannot be read.
    pub fn add_crl(&mut self, file: &[u8]) -> Result<usize, LoadError> {
        let lists = pem_or_der::<CertificateRevocationListDer<'_>>(file, "revocation list")?;
        for (number, der) in (1..).zip(&lists) {
            let owned = BorrowedCertRevocationList::from_der(der).and_then(|list| list.to_owned());
            let owned = owned.map_err(|error| LoadError::Crl {
                number,
                why: format!("{error:?}"),
            })?;
            self.crls.push(owned.into());
        }
        Ok(lists.len())
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Asks the peer for a certificate by one of these authorities (RFC 7296, section 3.7).
    #[must_use]
    pub fn certificate_request(&self) -> wire::CertificateRequest {
        let authorities = self.certificates.iter().filter(|c| c.is_authority);
        let hashes = authorities.map(|authority| {
            digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &authority.key_info)
        });
        wire::CertificateRequest {
            encoding: CertificateEncoding::X509,
            authorities: hashes.flat_map(|hash| hash.as_ref().to_vec()).collect(),
        }
    }

    /// Verifies the certificates that a peer sent, the first of which is its own, for the identity
    /// that it claims.
    ///
    /// # Errors
    /// The first reason not to believe it, as a sentence.
    pub fn verify<'a>(
        &self,
        sent: impl IntoIterator<Item = &'a wire::Certificate>,
        identity: &Identity,
        now: SystemTime,
        policy: TrustPolicy,
    ) -> Result<PeerCertificate, CertificateError> {
        let chain = received(sent)?;
        let own = chain.first().ok_or(CertificateError::None)?;
        let pinned = self
            .certificates
            .iter()
            .any(|trusted| trusted.der == own.der);
        if pinned {
            check_time(own, now)?;
        } else {
            self.verify_chain(&chain, own, now, policy)?;
        }
        if !own.has(identity) {
            return Err(CertificateError::Identity {
                identity: name::describe(identity),
                names: own.names(),
            });
        }
        Ok(PeerCertificate {
            subject: own.name(),
            key: own.key.clone(),
            not_after: own.not_after,
        })
    }

    fn verify_chain(
        &self,
        chain: &[Certificate],
        own: &Certificate,
        now: SystemTime,
        policy: TrustPolicy,
    ) -> Result<(), CertificateError> {
        let ders: Vec<CertificateDer<'_>> = chain
            .iter()
            .map(|certificate| CertificateDer::from(certificate.der.as_slice()))
            .collect();
        let (own_der, others) = ders.split_first().ok_or(CertificateError::None)?;
        let explain = |error| self.explain(error, chain, own);
        let end_entity = EndEntityCert::try_from(own_der).map_err(explain)?;
        let crls: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            let (unknown, expired) = if policy.strict_revocation {
                (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce)
            } else {
                (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore)
            };
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(unknown)
                .with_expiration_policy(expired)
                .build()
        });
        if revocation.is_none() && policy.strict_revocation {
            return Err(CertificateError::NoRevocationList(own.name()));
        }
        let path = end_entity
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &self.anchors,
                others,
                UnixTime::since_unix_epoch(since_1970(now)),
                Usage,
                revocation,
                None,
            )
            .map_err(explain)?;
        // RFC 5280 leaves the anchor's own time open.
        let key = path.anchor().subject_public_key_info.as_ref();
        let anchor = self
            .certificates
            .iter()
            .find(|c| c.is_authority && c.key_info.ends_with(key));
        anchor.map_or(Ok(()), |anchor| check_time(anchor, now))
    }

    /// Says of which certificate webpki speaks, and what is the matter with it.
    fn explain(
        &self,
        error: webpki::Error,
        chain: &[Certificate],
        own: &Certificate,
    ) -> CertificateError {
        use webpki::Error as E;
        let seconds = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match error {
            E::CertExpired { not_after, .. } => {
                let at = seconds(not_after);
                let which = chain.iter().find(|c| c.not_after == at).unwrap_or(own);
                CertificateError::Expired {
                    subject: which.name(),
                    at: date(at),
                }
            }
            E::CertNotValidYet { not_before, .. } => {
                let from = seconds(not_before);
                let which = chain.iter().find(|c| c.not_before == from).unwrap_or(own);
                CertificateError::Early {
                    subject: which.name(),
                    from: date(from),
                }
            }
            E::UnknownIssuer => {
                let last = last_of_chain(chain, own);
                CertificateError::UnknownIssuer {
                    subject: last.name(),
                    issuer: last.issuer_name(),
                    trusted: self.names(),
                }
            }
            E::InvalidSignatureForPublicKey => {
                let last = last_of_chain(chain, own);
                CertificateError::Forged {
                    subject: last.name(),
                    issuer: last.issuer_name(),
                }
            }
            E::CertRevoked => {
                let revoked = chain.iter().find(|c| self.is_listed(c));
                CertificateError::Revoked(revoked.unwrap_or(own).name())
            }
            E::UnknownRevocationStatus => CertificateError::NoRevocationList(own.name()),
            E::CrlExpired { next_update, .. } => CertificateError::StaleRevocationList {
                subject: own.name(),
                at: date(seconds(next_update)),
            },
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
                CertificateError::Usage(own.name())
            }
            other => CertificateError::Chain {
                subject: own.name(),
                why: chain_fault(&other),
            },
        }
    }

    fn names(&self) -> String {
        let authorities = self.certificates.iter().filter(|c| c.is_authority);
        let names: Vec<String> = authorities.map(Certificate::name).collect();
        if names.is_empty() {
            "nobody".to_owned()
        } else {
            names.join("; ")
        }
    }

    fn is_listed(&self, certificate: &Certificate) -> bool {
        self.crls.iter().any(|crl| {
            // A list's issuer is the name without its outer tag and length.
            certificate.issuer.ends_with(crl.issuer())
                && matches!(crl.find_serial(&certificate.serial), Ok(Some(_)))
        })
    }
}

fn chain_fault(error: &webpki::Error) -> String {
    use webpki::Error as E;
    match error {
        E::CaUsedAsEndEntity => "it is an authority's certificate, not a peer's".to_owned(),
        E::EndEntityUsedAsCa => "an issuer in it is no authority".to_owned(),
        E::PathLenConstraintViolated => "an issuer in it may not stand so high".to_owned(),
        E::NameConstraintViolation => "an issuer in it may not issue for this name".to_owned(),
        E::InvalidCrlSignatureForPublicKey | E::IssuerNotCrlSigner => {
            "the revocation list about it is not its issuer's".to_owned()
        }
        E::UnsupportedCriticalExtension => {
            "it has a critical extension that is not understood".to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// The certificate at which the way from the peer's own to an authority ends, among those sent.
fn last_of_chain<'a>(chain: &'a [Certificate], own: &'a Certificate) -> &'a Certificate {
    let mut last = own;
    for _ in 0..chain.len() {
        let issuer = chain
            .iter()
            .find(|c| c.subject == last.issuer && c.der != last.der);
        match issuer {
            Some(issuer) => last = issuer,
            None => break,
        }
    }
    last
}

/// The X.509 certificates that came.
fn received<'a>(
    sent: impl IntoIterator<Item = &'a wire::Certificate>,
) -> Result<Vec<Certificate>, CertificateError> {
    let mut chain = Vec::new();
    let mut refused = None;
    for certificate in sent {
        match certificate.encoding {
            CertificateEncoding::X509 => {}
            CertificateEncoding::HashAndUrl | CertificateEncoding::HashAndUrlBundle => {
                refused = refused.or(Some(CertificateError::HashAndUrl));
                continue;
            }
            // Lists and responses beside the certificates are not needed.
            CertificateEncoding::Crl | CertificateEncoding::Ocsp => continue,
            other => {
                refused = refused.or(Some(CertificateError::Encoding(other)));
                continue;
            }
        }
        if chain.len() == MAX_CERTIFICATES {
            break;
        }
        let parsed = Certificate::parse(&certificate.data);
        chain.push(parsed.map_err(CertificateError::Unreadable)?);
    }
    match refused {
        Some(error) if chain.is_empty() => Err(error),
        _ => Ok(chain),
    }
}

pub(crate) fn check_time(
    certificate: &Certificate,
    now: SystemTime,
) -> Result<(), CertificateError> {
    let now = i64::try_from(since_1970(now).as_secs()).unwrap_or(i64::MAX);
    if now > certificate.not_after {
        return Err(CertificateError::Expired {
            subject: certificate.name(),
            at: date(certificate.not_after),
        });
    }
    if now < certificate.not_before {
        return Err(CertificateError::Early {
            subject: certificate.name(),
            from: date(certificate.not_before),
        });
    }
    Ok(())
}

/// A clock before 1970 counts as 1970.
fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// DER of the certificates of a file, never none.
pub(crate) fn certificates(file: &[u8]) -> Result<Vec<Vec<u8>>, LoadError> {
    let ders = pem_or_der::<CertificateDer<'_>>(file, "certificate")?;
    Ok(ders.iter().map(|der| der.to_vec()).collect())
}

/// The objects of one kind in a file: all of a PEM file, or the file itself as DER.
fn pem_or_der<T: PemObject + From<Vec<u8>>>(
    file: &[u8],
    what: &'static str,
) -> Result<Vec<T>, LoadError> {
    if file.first() == Some(&crate::der::SEQUENCE) {
        return Ok(vec![T::from(file.to_vec())]);
    }
    let objects: Result<Vec<T>, _> = T::pem_slice_iter(file).collect();
    let objects = objects.map_err(|error| LoadError::Pem(error.to_string()))?;
    if objects.is_empty() {
        return Err(LoadError::Missing(what));
    }
    Ok(objects)
}

#[cfg(test)]
mod tests;
