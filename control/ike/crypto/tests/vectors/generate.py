#!/usr/bin/env python3
"""Known answers for key derivation, shared-key proofs, Encrypted payloads and MODP groups.

Another reading of RFC 7296 (sections 2.13 to 2.18 and 3.14), RFC 5282 and RFC 7383 than the Rust
code's, over Python's hmac, pow and the `cryptography` package. Inputs are hashes of their names, so
that a second run writes the same file:

    python3 generate.py > known_answers.txt
"""

import hashlib
import hmac
import re
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HASHES = {"sha1": "sha1", "sha2-256": "sha256", "sha2-384": "sha384", "sha2-512": "sha512"}
ICV = {"sha1": 12, "sha2-256": 16, "sha2-384": 24, "sha2-512": 32}


def sample(name, length):
    """`length` octets that follow from a name."""
    return hashlib.shake_256(name.encode()).digest(length)


def prf(name, key, data):
    return hmac.new(key, data, HASHES[name]).digest()


def prf_plus(name, key, seed, length):
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = prf(name, key, block + seed + bytes([number]))
        out += block
        number += 1
    return out[:length]


def cipher_lengths(cipher):
    """Octets of SK_e (with salt) and of SK_a."""
    bits = int(re.match(r"aes(\d+)", cipher).group(1)) // 8
    if "gcm" in cipher:
        return bits + 4, 0
    return bits, hashlib.new(HASHES[cipher.split("-cbc-")[1]]).digest_size


def ike_keys(prf_name, cipher, skeyseed, ni, nr, spi_i, spi_r):
    size = hashlib.new(HASHES[prf_name]).digest_size
    encryption, integrity = cipher_lengths(cipher)
    names = ["d", "ai", "ar", "ei", "er", "pi", "pr"]
    lengths = [size, integrity, integrity, encryption, encryption, size, size]
    stream = prf_plus(prf_name, skeyseed, ni + nr + spi_i + spi_r, sum(lengths))
    keys = {}
    for name, length in zip(names, lengths):
        keys[name], stream = stream[:length], stream[length:]
    return keys


def seal(cipher, encryption, integrity, before, plaintext, count, iv):
    """The body of an Encrypted payload; `before` is everything ahead of it, lengths included."""
    if "gcm" in cipher:
        explicit = struct.pack(">Q", count)
        gcm = AESGCM(encryption[:-4])
        return explicit + gcm.encrypt(encryption[-4:] + explicit, plaintext + b"\0", before)
    padding = -(len(plaintext) + 1) % 16
    padded = plaintext + bytes(padding) + bytes([padding])
    encryptor = Cipher(algorithms.AES(encryption), modes.CBC(iv)).encryptor()
    body = iv + encryptor.update(padded) + encryptor.finalize()
    name = cipher.split("-cbc-")[1]
    return body + prf(name, integrity, before + body)[: ICV[name]]


def body_length(cipher, plaintext):
    if "gcm" in cipher:
        return 8 + plaintext + 1 + 16
    return 16 + (plaintext + 16) // 16 * 16 + ICV[cipher.split("-cbc-")[1]]


def message(cipher, keys, spi_i, spi_r, plaintext, count, iv, fragment=None):
    """An INFORMATIONAL request of the initiator, message ID 9, with a Vendor ID inside."""
    number = b"" if fragment is None else struct.pack(">HH", *fragment)
    first = 43 if fragment is None or fragment[0] == 1 else 0
    kind = 46 if fragment is None else 53
    length = 4 + len(number) + body_length(cipher, len(plaintext))
    before = spi_i + spi_r + bytes([kind, 0x20, 37, 0x08]) + struct.pack(">II", 9, 28 + length)
    before += bytes([first, 0]) + struct.pack(">H", length) + number
    return before + seal(cipher, keys["ei"], keys["ai"], before, plaintext, count, iv)


def record(kind, **fields):
    print(f"[{kind}]")
    for name, value in fields.items():
        print(name, "=", value.hex() if isinstance(value, bytes) else value)
    print()


def suites():
    ciphers = ["aes128-gcm16", "aes256-gcm16"]
    ciphers += [f"aes{bits}-cbc-{name}" for bits in (128, 256) for name in HASHES]
    names = list(HASHES)
    # Every cipher once, and every function with an AEAD and without.
    pairs = [(cipher, names[index % 4]) for index, cipher in enumerate(ciphers)]
    pairs += [("aes256-gcm16", name) for name in names if ("aes256-gcm16", name) not in pairs]
    return pairs


def derivations():
    for cipher, name in suites():
        def s(what, length):
            return sample(f"{cipher} {name} {what}", length)

        shared, ni, nr = s("shared", 48), s("ni", 32), s("nr", 40)
        spi_i, spi_r = s("spi i", 8), s("spi r", 8)
        keys = ike_keys(name, cipher, prf(name, ni + nr, shared), ni, nr, spi_i, spi_r)

        # The IKE SA that replaces it changes its PRF.
        other = {"sha1": "sha2-512", "sha2-512": "sha1"}.get(name, "sha2-256")
        shared2, ni2, nr2 = s("shared 2", 32), s("ni 2", 16), s("nr 2", 64)
        skeyseed2 = prf(name, keys["d"], shared2 + ni2 + nr2)
        spi_i2, spi_r2 = s("spi i 2", 8), s("spi r 2", 8)
        keys2 = ike_keys(other, cipher, skeyseed2, ni2, nr2, spi_i2, spi_r2)

        material = sum(cipher_lengths(cipher))
        child = prf_plus(name, keys["d"], ni + nr, 2 * material)
        child_pfs = prf_plus(name, keys["d"], shared2 + ni2 + nr2, 2 * material)

        init, identity, psk = s("message", 80), s("identity", 8), s("psk", 20)
        octets = init + nr + prf(name, keys["pi"], identity)
        auth = prf(name, prf(name, psk, b"Key Pad for IKEv2"), octets)
        octets_r = init + ni + prf(name, keys["pr"], identity)

        vendor = b"\0\0" + struct.pack(">H", 4 + 100) + s("vendor", 100)
        iv = s("iv", 16)
        sealed = message(cipher, keys, spi_i, spi_r, vendor, 0, iv)
        pieces = [vendor[:64], vendor[64:]]
        fragments = [
            message(cipher, keys, spi_i, spi_r, piece, number, iv, (number, 2))
            for number, piece in enumerate(pieces, 1)
        ]
        record(
            "suite", cipher=cipher, prf="prf-" + name, shared=shared, ni=ni, nr=nr,
            spi_i=spi_i, spi_r=spi_r, keys=b"".join(keys.values()),
            prf2="prf-" + other, shared2=shared2, ni2=ni2, nr2=nr2, spi_i2=spi_i2, spi_r2=spi_r2,
            keys2=b"".join(keys2.values()), child=child, child_pfs=child_pfs,
            init=init, identity=identity, psk=psk, octets_i=octets, octets_r=octets_r, auth_i=auth,
            vendor=vendor[4:], iv=iv, sealed=sealed, fragment1=fragments[0], fragment2=fragments[1],
        )


def groups():
    """Two key pairs of each MODP group. The numbers of the groups come from the Rust source,
    whose own tests check them; the exponentiation here is Python's."""
    source = Path(__file__).parent / "../../src/dh/modp_numbers.rs"
    numbers = {}
    for name, text in re.findall(r"const (\w+): &str =(.*?);", source.read_text(), re.S):
        numbers[name] = int("".join(re.findall(r'"(\w+)"', text)), 16)
    for name in [n for n in numbers if re.fullmatch(r"MODP_\d+(_\d+)?", n)]:
        prime, generator = numbers[name], numbers.get(name + "_GENERATOR", 2)
        bits = numbers.get(name + "_ORDER", 1 << 256).bit_length() - 1
        size = (prime.bit_length() + 7) // 8
        a, b = (sample(f"{name} {side}", bits // 8) for side in "ab")
        x, y = int.from_bytes(a, "big"), int.from_bytes(b, "big")
        record(
            "group", group=name.lower().replace("modp_", "modp").replace("_", "s"), a=a, b=b,
            public_a=pow(generator, x, prime).to_bytes(size, "big"),
            public_b=pow(generator, y, prime).to_bytes(size, "big"),
            shared=pow(generator, x * y, prime).to_bytes(size, "big"),
        )


if __name__ == "__main__":
    sys.stdout.reconfigure(newline="\n")
    print("# Written by generate.py.\n")
    derivations()
    groups()
