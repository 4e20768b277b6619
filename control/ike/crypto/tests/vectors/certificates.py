#!/usr/bin/env python3
"""Certificates, revocation lists, keys and signatures that the tests read.

Made by the `cryptography` package, so that the Rust code is checked against another implementation.
The keys are only for these tests. Every run makes new ones:

    python3 certificates.py certificates
"""

import ipaddress
import sys
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
END = datetime(2044, 1, 1, tzinfo=timezone.utc)
OCTETS = b"what an IKE peer signs"


def name(common):
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Hawser Test"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


class Entity:
    """A certificate and its key."""

    def __init__(self, common, key, issuer=None, ca=False, path_length=None, san=(), usage=(),
                 start=START, end=END, pss=False, critical=None):
        self.name, self.key = name(common), key
        signer = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if ca:
            builder = builder.add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False), True
            )
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName(san), False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), False)
        if critical:
            unknown = x509.UnrecognizedExtension(ObjectIdentifier(critical), b"\x05\x00")
            builder = builder.add_extension(unknown, True)
        options = {}
        if pss:
            options["rsa_padding"] = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        self.certificate = builder.sign(signer.key, digest(signer.key), **options)

    def crl(self, *revoked, end=END):
        builder = x509.CertificateRevocationListBuilder()
        builder = builder.issuer_name(self.name).last_update(START).next_update(end)
        builder = builder.add_extension(x509.CRLNumber(1), False)
        for entity in revoked:
            entry = x509.RevokedCertificateBuilder()
            entry = entry.serial_number(entity.certificate.serial_number).revocation_date(START)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, digest(self.key))


def digest(key):
    size = getattr(key, "curve", None) and key.curve.key_size
    return {384: hashes.SHA384(), 521: hashes.SHA512()}.get(size, hashes.SHA256())


def p256():
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key(bits=2048):
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def dns(text):
    return [x509.DNSName(text)]


def main(folder):
    folder.mkdir(exist_ok=True)
    pem, text = serialization.Encoding.PEM, serialization.PrivateFormat
    plain = serialization.NoEncryption()

    root = Entity("Root EC", p256(), ca=True)
    root_rsa = Entity("Root RSA", rsa_key(), ca=True)
    inner = Entity("Intermediate", ec.generate_private_key(ec.SECP384R1()), root, True, 0)
    below = Entity("Too deep", p256(), inner, ca=True)
    old_root = Entity("Old Root", p256(), ca=True, end=datetime(2025, 1, 1, tzinfo=timezone.utc))
    gateway = [
        x509.DNSName("gw1.example.com"),
        x509.RFC822Name("admin@example.com"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.DirectoryName(name("alias")),
    ]
    ike = ObjectIdentifier("1.3.6.1.5.5.7.3.17")
    entities = {
        "root": root,
        "root_rsa": root_rsa,
        "root_other": Entity("Other Root", p256(), ca=True),
        "root_forged": Entity("Root EC", p256(), ca=True),
        "root_old": old_root,
        "intermediate": inner,
        "too_deep": below,
        "p256": Entity("gw1", p256(), inner, san=gateway),
        "p384": Entity("gw2", ec.generate_private_key(ec.SECP384R1()), root, san=dns("gw2.example.com")),
        "p521": Entity("gw3", ec.generate_private_key(ec.SECP521R1()), root, san=dns("gw3.example.com")),
        "rsa": Entity("gw4", rsa_key(), root_rsa, san=dns("gw4.example.com"), usage=[ike]),
        "rsa_pss": Entity("gw5", rsa_key(), root_rsa, san=dns("gw5.example.com"), pss=True),
        "rsa_short": Entity("gw6", rsa_key(1024), root_rsa, san=dns("gw6.example.com")),
        "server": Entity("gw7", p256(), root, san=dns("gw7.example.com"),
                         usage=[ExtendedKeyUsageOID.SERVER_AUTH]),
        "code": Entity("gw8", p256(), root, san=dns("gw8.example.com"),
                       usage=[ExtendedKeyUsageOID.CODE_SIGNING]),
        "expired": Entity("gw9", p256(), root, san=dns("gw9.example.com"),
                          end=datetime(2025, 3, 4, 5, 6, 7, tzinfo=timezone.utc)),
        "early": Entity("gw10", p256(), root, san=dns("gw10.example.com"),
                        start=datetime(2040, 1, 1, tzinfo=timezone.utc)),
        "revoked": Entity("gw11", p256(), root, san=dns("gw11.example.com")),
        "old_issuer": Entity("gw12", p256(), old_root, san=dns("gw12.example.com")),
        "deep": Entity("gw13", p256(), below, san=dns("gw13.example.com")),
        "self_signed": Entity("gw14", p256(), san=dns("gw14.example.com")),
        "critical": Entity("gw15", p256(), root, san=dns("gw15.example.com"), critical="1.2.3.4"),
        "by_leaf": None,
    }
    entities["by_leaf"] = Entity("gw16", p256(), entities["p384"], san=dns("gw16.example.com"))
    for label, entity in entities.items():
        (folder / f"{label}.pem").write_bytes(entity.certificate.public_bytes(pem))
        if not label.startswith("root"):
            key = entity.key.private_bytes(pem, text.PKCS8, plain)
            (folder / f"{label}.key").write_bytes(key)
    der = entities["p256"].certificate.public_bytes(serialization.Encoding.DER)
    (folder / "p256.der").write_bytes(der)
    (folder / "p256.pkcs8").write_bytes(
        entities["p256"].key.private_bytes(serialization.Encoding.DER, text.PKCS8, plain)
    )
    for label in ("p256", "rsa"):
        key = entities[label].key.private_bytes(pem, text.TraditionalOpenSSL, plain)
        (folder / f"{label}_traditional.key").write_bytes(key)
    locked = serialization.BestAvailableEncryption(b"password")
    key = entities["p256"].key.private_bytes(pem, text.PKCS8, locked)
    (folder / "p256_encrypted.key").write_bytes(key)

    revoked = entities["revoked"]
    lists = {
        "root": root.crl(revoked),
        "root_stale": root.crl(revoked, end=datetime(2025, 1, 1, tzinfo=timezone.utc)),
        "root_forged": entities["root_forged"].crl(revoked),
        "intermediate_revoked": root.crl(inner),
    }
    for label, crl in lists.items():
        (folder / f"{label}.crl").write_bytes(crl.public_bytes(pem))

    signatures(folder, entities)


def signatures(folder, entities):
    """Signatures over OCTETS by the keys of `rsa`, `p256`, `p384` and `p521`."""
    lines = [f"octets = {OCTETS.hex()}"]
    key = entities["rsa"].key
    for label, algorithm in (
        ("sha1", hashes.SHA1()), ("sha256", hashes.SHA256()),
        ("sha384", hashes.SHA384()), ("sha512", hashes.SHA512()),
    ):
        signature = key.sign(OCTETS, padding.PKCS1v15(), algorithm)
        lines.append(f"rsa_pkcs1_{label} = {signature.hex()}")
        if label != "sha1":
            pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
            lines.append(f"rsa_pss_{label} = {key.sign(OCTETS, pss, algorithm).hex()}")
    for label, size in (("p256", 32), ("p384", 48), ("p521", 66)):
        key = entities[label].key
        for name, algorithm in (
            ("sha256", hashes.SHA256()), ("sha384", hashes.SHA384()), ("sha512", hashes.SHA512()),
        ):
            signature = key.sign(OCTETS, ec.ECDSA(algorithm))
            lines.append(f"{label}_{name} = {signature.hex()}")
        r, s = decode_dss_signature(key.sign(OCTETS, ec.ECDSA(digest(key))))
        fixed = r.to_bytes(size, "big") + s.to_bytes(size, "big")
        lines.append(f"{label}_fixed = {fixed.hex()}")
    (folder / "signatures.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
