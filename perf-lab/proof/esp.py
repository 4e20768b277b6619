"""Scapy's side of the proof that Hawser speaks ESP: what esp_make.py and esp_check.py share.

Scapy is an implementation that has nothing in common with ours. Its packet codec, ciphers and integrity algorithms
are used as they are; done by hand is only what scapy 2.5 does wrong or not at all:
  - the UDP header (RFC 3948): scapy's NAT-T path breaks on decryption;
  - the high half of extended sequence numbers under HMAC (RFC 4303, section 2.2.1), which scapy leaves out.

A list of packets is a JSON array of objects:
  suite        e.g. "aes128-gcm16" or "aes256-cbc-sha2-256"
  key          hex: cipher key, then salt (GCM) or integrity key (CBC)
  spi          number
  esn          true for extended sequence numbers
  sequence     number, 64 bits with ESN
  source, destination   outer addresses
  udp          [source port, destination port], or null for plain ESP
  inner        hex: the inner IP packet
  tfc          bytes of traffic flow confidentiality padding behind it (esp_make.py only; optional)
"""

import hashlib
import hmac
import json
import struct

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation

# Suite -> (scapy's cipher, cipher key bytes with the salt, scapy's integrity, digest, ICV bytes)
GCM = {f"aes{bits}-gcm16": ("AES-GCM", bits // 8 + 4, "NULL", None, 16) for bits in (128, 256)}
HMACS = {
    "sha1": ("HMAC-SHA1-96", hashlib.sha1, 12),
    "sha2-256": ("SHA2-256-128", hashlib.sha256, 16),
    "sha2-384": ("SHA2-384-192", hashlib.sha384, 24),
    "sha2-512": ("SHA2-512-256", hashlib.sha512, 32),
}
CBC = {
    f"aes{bits}-cbc-{name}": ("AES-CBC", bits // 8, scapy, digest, icv)
    for bits in (128, 256)
    for name, (scapy, digest, icv) in HMACS.items()
}
SUITES = GCM | CBC


class Codec:
    """One packet's SA."""

    def __init__(self, packet):
        cipher, cipher_key, integrity, self.digest, self.icv = SUITES[packet["suite"]]
        key = bytes.fromhex(packet["key"])
        self.esn = packet["esn"]
        self.low = packet["sequence"] & 0xFFFFFFFF
        self.high = packet["sequence"] >> 32
        if not self.esn and self.high:
            raise ValueError("a 64-bit sequence number without ESN")
        self.integrity_key = key[cipher_key:]
        self.by_hand = self.esn and self.digest is not None
        outer = IPv6 if ":" in packet["source"] else IP
        self.sa = SecurityAssociation(
            ESP,
            spi=packet["spi"],
            crypt_algo=cipher,
            crypt_key=key[:cipher_key],
            auth_algo="NULL" if self.by_hand else integrity,
            auth_key=self.integrity_key,
            tunnel_header=outer(src=packet["source"], dst=packet["destination"]),
        )
        # An argument of 0 counts as none given.
        self.sa.seq_num = self.low

    def hmac(self, data):
        mac = hmac.new(self.integrity_key, data + struct.pack("!L", self.high), self.digest)
        return mac.digest()[: self.icv]

    def seal(self, inner):
        """The ESP packet, from the SPI to the ICV, for the bytes of an inner packet."""
        inner = (IP if inner[0] >> 4 == 4 else IPv6)(inner)
        sealed = self.sa.encrypt(inner, esn_en=self.esn, esn=self.high)
        data = bytes(sealed[ESP])
        return data + self.hmac(data) if self.by_hand else data

    def open(self, data):
        """(inner bytes, next header, pad length); raises what scapy raises when the ICV is wrong."""
        if self.by_hand:
            data, icv = data[: -self.icv], data[-self.icv :]
            if not hmac.compare_digest(icv, self.hmac(data)):
                raise ValueError("the ICV is wrong")
        esp = ESP(data)
        self.sa.auth_algo.verify(esp, self.integrity_key)
        icv = self.sa.crypt_algo.icv_size or (0 if self.by_hand else self.icv)
        plain = self.sa.crypt_algo.decrypt(
            self.sa, esp, self.sa.crypt_key, icv, esn_en=self.esn, esn=self.high
        )
        return plain.data, plain.nh, plain.padlen


def read_packets(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
