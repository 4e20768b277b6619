#!/usr/bin/env python3
"""Records exchanges between two strongSwan daemons, with the secrets that their logs show.

    sudo python3 strongswan.py > strongswan.txt

Needs strongSwan's charon-systemd and swanctl, tcpdump, iproute2, and the folder `certificates`
beside it. Two network namespaces, made and removed here, hold one daemon each; nothing reaches the
host's network. Every run records other nonces and keys.
"""

import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CERTIFICATES = HERE / "certificates"
ADDRESSES = {"initiator": "192.0.2.1", "responder": "192.0.2.2"}
PSK = "not a secret"

# Name; IKE and ESP proposals; the local section and the identity of both sides.
CASES = [
    ("psk-gcm", "aes256gcm16-prfsha384-x25519", "aes256gcm16", None, None),
    ("psk-cbc", "aes128-sha256-modp2048", "aes128-sha256", None, None),
    ("rsa", "aes256-sha512-ecp384", "aes256-sha512",
     ("rsa", "gw4.example.com", "ike:rsa/pss-sha384"), ("rsa_pss", "gw5.example.com", "pubkey")),
    ("ecdsa", "aes128gcm16-prfsha256-modp2048s256", "aes128gcm16",
     ("p256", "gw1.example.com", "pubkey"), ("p521", "gw3.example.com", "pubkey")),
]


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


class Daemon:
    """charon in a namespace."""

    def __init__(self, role, folder, namespace, conf):
        self.folder = folder / role
        self.log = self.folder / "log"
        swanctl = self.folder / "swanctl"
        for name in ("x509", "x509ca", "private"):
            (swanctl / name).mkdir(parents=True)
        (swanctl / "swanctl.conf").write_text(conf)
        for root in ("root", "root_rsa"):
            shutil.copy(CERTIFICATES / f"{root}.pem", swanctl / "x509ca")
        # Each daemon only has its own.
        for label in re.findall(r"certs = (\w+)\.pem", conf):
            shutil.copy(CERTIFICATES / f"{label}.pem", swanctl / "x509")
            shutil.copy(CERTIFICATES / f"{label}.key", swanctl / "private")
            if label == "p256":
                shutil.copy(CERTIFICATES / "intermediate.pem", swanctl / "x509")
        settings = self.folder / "strongswan.conf"
        settings.write_text(f"""
charon-systemd {{
    load = random nonce openssl kdf curve25519 gmp aes sha1 sha2 hmac gcm pem pkcs1 pkcs8 pubkey x509 \
constraints revocation kernel-libipsec kernel-netlink socket-default vici
    fragment_size = 600
    filelog {{
        log {{
            path = {self.log}
            default = 1
            ike = 4
            chd = 4
            flush_line = yes
        }}
    }}
    plugins {{
        vici {{
            socket = unix://{self.folder}/vici
        }}
        kernel-libipsec {{
            allow_peer_ts = yes
        }}
    }}
}}
""")
        self.prefix = ["ip", "netns", "exec", namespace]
        self.environment = os.environ | {
            "STRONGSWAN_CONF": str(settings), "SWANCTL_DIR": str(swanctl),
        }
        self.process = subprocess.Popen(
            [*self.prefix, "/usr/sbin/charon-systemd"], env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            if (self.folder / "vici").exists():
                break
            time.sleep(0.1)
        self.swanctl("--load-all")

    def swanctl(self, *arguments):
        command = [*self.prefix, "swanctl", *arguments, "--uri", f"unix://{self.folder}/vici"]
        return run(*command, env=self.environment, timeout=30).stdout

    def stop(self):
        self.process.terminate()
        self.process.wait()


def configuration(role, ike, esp, local, remote):
    other = "responder" if role == "initiator" else "initiator"

    def section(side, entity, address):
        if entity is None:
            return f"{side} {{\n auth = psk\n id = {address}\n }}"
        label, identity, auth = entity
        if side == "local":
            return f"local {{\n auth = {auth}\n certs = {label}.pem\n id = {identity}\n }}"
        return f"remote {{\n auth = pubkey\n id = {identity}\n }}"

    return f"""
connections {{
    test {{
        version = 2
        local_addrs = {ADDRESSES[role]}
        remote_addrs = {ADDRESSES[other]}
        proposals = {ike}
        rekey_time = 0
        dpd_delay = 0
        fragmentation = yes
        {section("local", local, ADDRESSES[role])}
        {section("remote", remote, ADDRESSES[other])}
        children {{
            test {{
                local_ts = 10.{1 if role == "initiator" else 2}.0.0/16
                remote_ts = 10.{2 if role == "initiator" else 1}.0.0/16
                esp_proposals = {esp}
                rekey_time = 0
            }}
        }}
    }}
}}
secrets {{
    ike {{
        secret = "{PSK}"
    }}
}}
"""


def datagrams(capture):
    """IKE messages of a capture on Ethernet, with the last octet of their source's address."""
    octets = capture.read_bytes()
    at = 24
    while at < len(octets):
        length = struct.unpack_from("<I", octets, at + 8)[0]
        packet = octets[at + 16 + 14 : at + 16 + length]
        at += 16 + length
        udp = packet[(packet[0] & 15) * 4 :]
        payload = udp[8 : struct.unpack_from(">H", udp, 4)[0]]
        if 4500 in struct.unpack_from(">HH", udp):
            if payload[:4] != bytes(4):
                continue
            payload = payload[4:]
        yield packet[15], payload


def secrets(log):
    """What a log shows: names and octets."""
    found, current = {}, None
    for line in log.read_text(errors="replace").splitlines():
        text = re.sub(r"^.*?\[(IKE|CHD)\] (<[^>]*> )?", "", line)
        start = re.match(r"(.+?) => \d+ bytes @", text)
        dump = re.match(r" *\d+: ((?:[0-9A-F]{2} )+)", text)
        if start:
            current = start.group(1)
            found.setdefault(current, b"")
        elif dump and current:
            found[current] += bytes.fromhex(dump.group(1))
        else:
            current = None
    return found


def record(case, folder, namespaces):
    name, ike, esp, initiator, responder = case
    sides = {"initiator": (initiator, responder), "responder": (responder, initiator)}
    capture = folder / "capture"
    dump = subprocess.Popen(
        ["ip", "netns", "exec", namespaces["initiator"], "tcpdump", "-U", "-i", "wire", "-w",
         str(capture), "udp port 500 or udp port 4500"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    daemons = []
    try:
        for role in ("responder", "initiator"):
            conf = configuration(role, ike, esp, *sides[role])
            daemons.append(Daemon(role, folder, namespaces[role], conf))
        daemons[1].swanctl("--initiate", "--child", "test", "--timeout", "10")
        time.sleep(0.5)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stdout + error.stderr)
        raise
    finally:
        for daemon in daemons:
            daemon.stop()
        dump.terminate()
        dump.wait()
    print(f"[{name}]")
    print("psk =", PSK)
    known = secrets(daemons[1].log)
    for label, text in (
        ("shared", "shared Diffie Hellman secret"),
        ("child_ei", "encryption initiator key"), ("child_er", "encryption responder key"),
        ("child_ai", "integrity initiator key"), ("child_ar", "integrity responder key"),
    ):
        print(label, "=", known.get(text, b"").hex())
    seen = set()
    for source, message in datagrams(capture):
        # IKE_SA_INIT and IKE_AUTH, once each.
        if message[18] in (34, 35) and message not in seen:
            seen.add(message)
            print("from_initiator =" if source == 1 else "from_responder =", message.hex())
    print()


def main():
    namespaces = {role: f"hawser-record-{role}-{os.getpid()}" for role in ADDRESSES}
    print("# Written by strongswan.py.\n")
    try:
        for namespace in namespaces.values():
            run("ip", "netns", "add", namespace)
        one, two = namespaces.values()
        run("ip", "-n", one, "link", "add", "wire", "type", "veth", "peer", "wire", "netns", two)
        for role, namespace in namespaces.items():
            run("ip", "-n", namespace, "address", "add", ADDRESSES[role] + "/24", "dev", "wire")
            run("ip", "-n", namespace, "link", "set", "wire", "up")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
            # The daemon wants an address inside its own selectors.
            inside = f"10.{ADDRESSES[role][-1]}.0.1/16"
            run("ip", "-n", namespace, "address", "add", inside, "dev", "wire")
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                record(case, Path(folder), namespaces)
    finally:
        for namespace in namespaces.values():
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


if __name__ == "__main__":
    main()
