//! What can be wrong with files and with certificates, as sentences.

use hawser_ike_wire::CertificateEncoding;

/// A file that cannot be used. Whoever configured it is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There is none of what was looked for.
    #[error("no {0} in it, neither PEM nor DER")]
    Missing(&'static str),
    /// The PEM armour is broken.
    #[error("not readable as PEM: {0}")]
    Pem(String),
    /// A certificate that cannot be read.
    #[error("certificate {number} is not readable: {why}")]
    Certificate {
        /// Which one, from 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// A revocation list that cannot be read.
    #[error("revocation list {number} is not readable: {why}")]
    Crl {
        /// Which one, from 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// A private key under a password.
    #[error("the private key is encrypted; store it without a password")]
    Encrypted,
    /// A private key of another kind, or a broken one.
    #[error("the private key is not usable: RSA of 2048 to 8192 bits, P-256, P-384 or P-521 are")]
    Key,
    /// The key is not the certificate's.
    #[error("the private key does not belong to the certificate of {0}")]
    Mismatch(String),
}

/// Why a peer's certificate is not believed. The peer is to blame: AUTHENTICATION_FAILED.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// None came.
    #[error("the peer sent no certificate")]
    None,
    /// A link instead of a certificate (RFC 7296, section 3.6).
    #[error("the peer sent a link to its certificate (hash and URL), which is not followed")]
    HashAndUrl,
    /// An encoding that is not read.
    #[error("the peer sent its certificate as {0}, where X.509 is expected")]
    Encoding(CertificateEncoding),
    /// Not a certificate.
    #[error("a certificate of the peer is not readable: {0}")]
    Unreadable(String),
    /// Its time is over.
    #[error("the certificate of {subject} expired on {at}")]
    Expired {
        /// Whose.
        subject: String,
        /// When.
        at: String,
    },
    /// Its time has not come.
    #[error("the certificate of {subject} is valid only from {from} on; check both clocks")]
    Early {
        /// Whose.
        subject: String,
        /// From when on.
        from: String,
    },
    /// The chain does not lead to a trust anchor.
    #[error(
        "the certificate of {subject} was issued by {issuer}, which is not trusted here; trusted: {trusted}"
    )]
    UnknownIssuer {
        /// The last certificate of the chain.
        subject: String,
        /// Who issued it.
        issuer: String,
        /// The names of the trust anchors.
        trusted: String,
    },
    /// Somebody else uses an issuer's name.
    #[error("the signature under the certificate of {subject} is not that of {issuer}")]
    Forged {
        /// Whose certificate.
        subject: String,
        /// Whose signature it claims.
        issuer: String,
    },
    /// It was revoked.
    #[error("the certificate of {0} has been revoked")]
    Revoked(String),
    /// Under the strict policy: no list says anything about it.
    #[error("no revocation list covers the certificate of {0} or one of its issuers")]
    NoRevocationList(String),
    /// Under the strict policy: the list is out of date.
    #[error("the revocation list about the certificate of {subject} was to be renewed on {at}")]
    StaleRevocationList {
        /// Whose.
        subject: String,
        /// When.
        at: String,
    },
    /// It was issued for something else.
    #[error(
        "the certificate of {0} is not meant for IKE: its extended key usage allows other uses only"
    )]
    Usage(String),
    /// An authority's certificate where a peer's is expected, or the other way round.
    #[error("the chain of {subject} is not valid: {why}")]
    Chain {
        /// The peer's certificate.
        subject: String,
        /// What is wrong.
        why: String,
    },
    /// It was issued for somebody else.
    #[error("the peer says it is {identity}, but its certificate was issued for: {names}")]
    Identity {
        /// Who the peer says it is.
        identity: String,
        /// For whom the certificate was issued.
        names: String,
    },
}
