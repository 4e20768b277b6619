//! Certificates of both sides: RSA and ECDSA, with authorities in between, in fragments.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{Case, Lab};
use crate::{
    config::Directory,
    netns::unique_prefix,
    scenario::{Findings, SHORT},
    shell,
};

/// Our name and strongSwan's.
pub(super) const NAMES: [&str; 2] = ["a.example.net", "b.example.net"];

/// Keys of RSA, in openssl's words.
pub(super) const RSA: &str = "rsa:4096";
/// Keys on the curve P-256.
pub(super) const P256: &str = "ec -pkeyopt ec_paramgen_curve:P-256";
/// Keys on the curve P-384.
const P384: &str = "ec -pkeyopt ec_paramgen_curve:P-384";

/// When a certificate is valid, in openssl's words.
const VALID: &str = "-days 3";
/// One whose time is over.
pub(super) const EXPIRED: &str = "-startdate 20200101000000Z -enddate 20210101000000Z";

/// A root, an authority below it for each side, and a certificate of each side.
pub(super) struct Authority {
    folder: Directory,
    keys: &'static str,
}

impl Authority {
    /// Makes all of it, with keys of this kind; the root is called `name`.
    pub(super) fn create(keys: &'static str, name: &str) -> Result<Self> {
        let authority = Self {
            folder: Directory::create(&format!("{}-ca", unique_prefix()))?,
            keys,
        };
        authority.folder.write("index", "")?;
        authority.folder.write(
            "ca.conf",
            &format!(
                "[ca]\ndefault_ca = lab\n[lab]\ndatabase = {}\nserial = {}\n\
                 new_certs_dir = {}\n\
                 default_md = sha256\npolicy = any\ncopy_extensions = copy\nunique_subject = no\n\
                 [any]\norganizationName = optional\ncommonName = supplied\n",
                authority.text("index"),
                authority.text("serial"),
                authority.folder.path().display()
            ),
        )?;
        let [root, root_key] = ["root.pem", "root.key"].map(|name| authority.text(name));
        shell::run(&format!(
            "openssl req -x509 -newkey {keys} -nodes -keyout {root_key} -out {root} \
             -subj /O=Lab/CN={name} {VALID}"
        ))?;
        for name in NAMES {
            authority.issue(
                &format!("middle-{name}"),
                "root",
                VALID,
                "basicConstraints=critical,CA:TRUE",
            )?;
            authority.leaf(name, VALID)?;
        }
        Ok(authority)
    }

    /// The certificate of a side anew, valid then.
    pub(super) fn leaf(&self, name: &str, valid: &str) -> Result<()> {
        let names = format!("subjectAltName=DNS:{name}");
        self.issue(name, &format!("middle-{name}"), valid, &names)?;
        // Our file has the whole chain but the root.
        let chain = [name.to_owned(), format!("middle-{name}")]
            .map(|n| std::fs::read_to_string(self.file(&format!("{n}.pem"))));
        let [own, above] = chain;
        self.folder
            .write(&format!("{name}.chain"), &(own? + &above?))?;
        Ok(())
    }

    fn issue(&self, name: &str, issuer: &str, valid: &str, extension: &str) -> Result<()> {
        let [certificate, request, key, ca, ca_key] = [
            format!("{name}.pem"),
            format!("{name}.csr"),
            format!("{name}.key"),
            format!("{issuer}.pem"),
            format!("{issuer}.key"),
        ]
        .map(|file| self.text(&file));
        shell::run(&format!(
            "openssl req -newkey {} -nodes -keyout {key} -out {request} -subj /O=Lab/CN={name} \
             -addext {extension}",
            self.keys
        ))?;
        shell::run(&format!(
            "openssl ca -batch -notext -rand_serial -config {} -in {request} -cert {ca} \
             -keyfile {ca_key} {valid} -out {certificate}",
            self.text("ca.conf")
        ))
        .map(drop)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Both sides prove themselves by their certificates. Each believes `trusts` of the authorities,
    /// ours first, and has nothing of the other's chain but that root.
    pub(super) fn prove(&self, case: &mut Case, trusts: [&Self; 2]) {
        let [ours, theirs] = NAMES;
        case.ike += &format!(
            "certificate = \"{}\"\nprivate_key = \"{}\"\nauthorities = \"{}\"\n\
             local_id = \"{ours}\"\nremote_id = \"{theirs}\"\n",
            self.text(&format!("{ours}.chain")),
            self.text(&format!("{ours}.key")),
            trusts[0].text("root.pem"),
        );
        let swan = &mut case.swan;
        for auth in [&mut swan.auth, &mut swan.peer_auth] {
            if auth == "psk" {
                *auth = "pubkey".into();
            }
        }
        swan.own = format!(
            "id = {theirs}\ncerts = {}",
            self.text(&format!("{theirs}.pem"))
        );
        swan.peer = format!("id = {ours}\ncacerts = {}", trusts[1].text("root.pem"));
        case.files = vec![
            (self.file(&format!("{theirs}.key")), "private/own.key"),
            (
                self.file(&format!("middle-{theirs}.pem")),
                "x509ca/middle.pem",
            ),
        ];
    }
}

/// A way to sign, with what strongSwan calls it when it says so.
struct Kind {
    what: &'static str,
    keys: &'static str,
    /// strongSwan's `auth` for both sides.
    auth: &'static str,
    /// More of our configuration.
    more: &'static str,
    scheme: &'static str,
    /// Octets of a packet with IKE; none leaves both defaults.
    fragments: Option<u16>,
}

const KINDS: [Kind; 4] = [
    Kind {
        what: "RSA 4096, PKCS #1 v1.5",
        keys: RSA,
        auth: "ike:rsa-sha256",
        more: "",
        scheme: "RSA_EMSA_PKCS1_SHA2_256",
        fragments: None,
    },
    Kind {
        what: "RSA 4096, RSA-PSS",
        keys: RSA,
        auth: "ike:rsa/pss-sha256",
        more: "rsa_pss = true\n",
        scheme: "RSA_EMSA_PSS_SHA2_256_SALT_32",
        fragments: None,
    },
    Kind {
        what: "ECDSA P-256",
        keys: P256,
        auth: "ike:ecdsa-sha256",
        more: "",
        scheme: "ECDSA_WITH_SHA256_DER",
        fragments: Some(576),
    },
    Kind {
        what: "ECDSA P-384",
        keys: P384,
        auth: "ike:ecdsa-sha384",
        more: "",
        scheme: "ECDSA_WITH_SHA384_DER",
        fragments: Some(576),
    },
];

pub(in crate::scenario) fn certificates(findings: &mut Findings) -> Result<()> {
    let mut made: Option<Authority> = None;
    for kind in KINDS {
        // RSA keys take seconds to make.
        let authority = match made.take() {
            Some(authority) if authority.keys == kind.keys => authority,
            _ => Authority::create(kind.keys, "Root")?,
        };
        for we_start in [true, false] {
            let mut case = Case::new(kind.what, we_start);
            case.swan.auth = kind.auth.into();
            case.swan.peer_auth = kind.auth.into();
            case.ike = kind.more.into();
            if let Some(size) = kind.fragments {
                case.ike += &format!("fragment_size = {size}\n");
                case.charon = format!("fragment_size = {size}\n");
            }
            authority.prove(&mut case, [&authority; 2]);
            let what = case.name();
            let (lab, time) = case.up().with_context(|| what.clone())?;
            let packets = lab.must_work(SHORT).with_context(|| what.clone())?;
            let fragments = signed_in_fragments(&lab, kind.scheme).with_context(|| what.clone())?;
            findings.add(format!(
                "{what}: up after {} ms, {} by both, IKE_AUTH in {} fragments of ours and {} of \
                 strongSwan's, {packets} packets both ways",
                time.as_millis(),
                kind.scheme,
                fragments[0],
                fragments[1]
            ));
            lab.close()?;
        }
        made = Some(authority);
    }
    Ok(())
}

/// Both signed in this way, the chain came from us, and IKE_AUTH went in fragments both ways, of
/// which strongSwan tells how many.
fn signed_in_fragments(lab: &Lab, scheme: &str) -> Result<[u32; 2]> {
    let log = lab.swan.whole_log();
    let [ours, theirs] = NAMES;
    for line in [
        format!("authentication of '{ours}' with {scheme} successful"),
        format!("authentication of '{theirs}' (myself) with {scheme} successful"),
        format!("received issuer cert \"O=Lab, CN=middle-{ours}\""),
        format!("sending issuer cert \"O=Lab, CN=middle-{theirs}\""),
    ] {
        ensure!(
            log.contains(&line),
            "strongSwan does not say: {line}\n{log}"
        );
    }
    let last_number = |before: &str, after: &str| -> u32 {
        let numbers = log.lines().filter_map(|line| {
            let rest = line.split_once(before)?.1;
            rest.split(after).next()?.trim().parse().ok()
        });
        numbers.max().unwrap_or(0)
    };
    let of_ours = last_number("received fragment #", " of ");
    let of_theirs = log
        .lines()
        .filter(|line| line.contains("splitting IKE message"))
        .filter_map(|line| line.split(" into ").nth(1)?.split(' ').next()?.parse().ok())
        .max()
        .unwrap_or(0);
    ensure!(
        of_ours >= 2 && of_theirs >= 2,
        "{of_ours} fragments of ours, {of_theirs} of strongSwan's\n{log}"
    );
    Ok([of_ours, of_theirs])
}
