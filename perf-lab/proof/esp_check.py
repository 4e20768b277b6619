#!/usr/bin/python3
"""Decrypts a capture with scapy and compares: esp_check.py LIST.json IN.pcap

Packet n of the capture must be what item n of the list says (see esp.py): outer addresses, encapsulation, SPI,
sequence number, ICV, padding, next header, and every byte of the inner packet. Ends with 1 at the first ten
differences.
"""

import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, in6_chksum
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader

from esp import Codec, read_packets


def differences(packet, frame):
    """What is wrong with one packet, as text."""
    ethernet = Ether(frame)
    outer = ethernet.payload
    wanted = IPv6 if ":" in packet["source"] else IP
    if not isinstance(outer, wanted):
        yield f"the outer header is {outer.name}"
        return
    if (outer.src, outer.dst) != (packet["source"], packet["destination"]):
        yield f"outer addresses {outer.src} -> {outer.dst}"
    if wanted is IP:
        checksum = outer.chksum
        del outer.chksum
        if IP(bytes(outer)).chksum != checksum:
            yield "the outer header's checksum is wrong"
        data = frame[14 + 4 * outer.ihl : 14 + outer.len]
        protocol = outer.proto
    else:
        data = frame[54 : 54 + outer.plen]
        protocol = outer.nh
    if protocol != (17 if packet["udp"] else 50):
        yield f"outer protocol {protocol}"
        return
    if packet["udp"]:
        udp = UDP(data[:8])
        if [udp.sport, udp.dport] != packet["udp"] or udp.len != len(data):
            yield f"UDP header {data[:8].hex()}"
        # RFC 3948, section 2.1: should be zero. Over IPv6 UDP must have one (RFC 8200, section 8.1).
        checksum = 0 if wanted is IP else in6_chksum(17, outer, data[:6] + bytes(2) + data[8:])
        if udp.chksum != checksum:
            yield f"UDP checksum {udp.chksum:#x} instead of {checksum:#x}"
        data = data[8:]
    spi, sequence = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    if spi != packet["spi"]:
        yield f"SPI {spi:#x}"
    codec = Codec(packet)
    if sequence != codec.low:
        yield f"sequence number {sequence}"
    inner, next_header, pad = codec.open(data)
    expected = bytes.fromhex(packet["inner"])
    if inner != expected:
        yield f"inner packet {inner.hex()} instead of {expected.hex()}"
    if next_header != (4 if expected[0] >> 4 == 4 else 41):
        yield f"next header {next_header}"
    # RFC 4303, section 2.4: no more padding than alignment needs.
    block = 16 if codec.digest else 4
    if pad != -(len(expected) + 2) % block:
        yield f"{pad} bytes of padding"


def main():
    packets = read_packets(sys.argv[1])
    frames = [frame for frame, _ in RawPcapReader(sys.argv[2])]
    wrong = 0
    if len(frames) != len(packets):
        print(f"{len(frames)} packets instead of {len(packets)}")
        wrong += 1
    for number, (packet, frame) in enumerate(zip(packets, frames)):
        try:
            found = list(differences(packet, frame))
        except Exception as error:  # scapy raises many kinds; each is a packet that it does not accept
            found = [f"{type(error).__name__}: {error}"]
        for text in found:
            where = "ESN" if packet["esn"] else "no ESN"
            print(f"packet {number} ({packet['suite']}, {where}, to {packet['destination']}): {text}")
        wrong += bool(found)
        if wrong >= 10:
            break
    if wrong:
        sys.exit(1)
    print(f"checked {len(packets)} packets")


main()
