#!/usr/bin/python3
"""Lets tshark decrypt a capture and compares: esp_tshark.py LIST.json IN.pcap  (the list: see esp.py)

A third implementation, and the only one that shows the padding: RFC 4303, section 2.4 wants 1, 2, 3, ... Tshark 4.0
knows no extended sequence numbers: such packets are left out, and their number is printed.
"""

import json
import subprocess
import sys

INTEGRITY = {
    "sha1": "HMAC-SHA-1-96 [RFC2404]",
    "sha2-256": "HMAC-SHA-256-128 [RFC4868]",
    "sha2-384": "HMAC-SHA-384-192 [RFC4868]",
    "sha2-512": "HMAC-SHA-512-256 [RFC4868]",
}
FIELDS = ["frame.number", "esp.spi", "esp.sequence", "esp.icv_good", "esp.pad", "esp.protocol", "esp.contained_data"]


def association(packet):
    """One line of tshark's table of SAs."""
    bits, _, integrity = packet["suite"].removeprefix("aes").partition("-cbc-")
    if integrity:
        cipher_bytes = int(bits) // 8
        names = "AES-CBC [RFC3602]", INTEGRITY[integrity]
    else:
        cipher_bytes = len(packet["key"]) // 2
        names = "AES-GCM with 16 octet ICV [RFC4106]", "NULL"
    key = packet["key"]
    cut = 2 * cipher_bytes
    values = [
        "IPv6" if ":" in packet["source"] else "IPv4",
        packet["source"],
        packet["destination"],
        f"{packet['spi']:#010x}",
        names[0],
        "0x" + key[:cut],
        names[1],
        "0x" + key[cut:] if key[cut:] else "",
    ]
    return ",".join(f'"{value}"' for value in values)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        packets = json.load(file)
    command = ["tshark", "-r", sys.argv[2], "-T", "fields", "-E", "separator=|", "-E", "occurrence=f"]
    command += ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    for line in dict.fromkeys(association(packet) for packet in packets if not packet["esn"]):
        command += ["-o", f"uat:esp_sa:{line}"]
    for field in FIELDS:
        command += ["-e", field]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = run.stdout.splitlines()
    if run.returncode != 0 or len(rows) != len(packets):
        sys.exit(f"tshark ended with {run.returncode}, {len(rows)} rows for {len(packets)} packets: {run.stderr}")
    checked = wrong = 0
    for packet, row in zip(packets, rows):
        if packet["esn"]:
            continue
        checked += 1
        number, spi, sequence, icv_good, pad, protocol, inner = row.split("|")
        good = (
            int(spi, 16) == packet["spi"]
            and int(sequence) == packet["sequence"]
            and icv_good in ("1", "True")
            and bytes.fromhex(pad) == bytes(range(1, len(pad) // 2 + 1))
            and int(protocol, 16) == (4 if packet["inner"][0] == "4" else 41)
            and inner == packet["inner"]
        )
        if not good:
            print(f"packet {number} ({packet['suite']}): tshark sees {row}, expected {packet['inner']}")
            wrong += 1
    if wrong:
        sys.exit(1)
    print(f"checked {checked} packets; {len(packets) - checked} with ESN left out")


main()
