use super::*;

/// A super-packet of `payload` bytes cut at `segment`, with FIN and PSH, sequence 1000.
fn super_packet(payload: usize, segment: u16) -> Vec<u8> {
    let mut bytes = vec![NEEDS_CHECKSUM, GSO_TCP4];
    for field in [54_u16, segment, 20, 16] {
        bytes.extend(field.to_ne_bytes());
    }
    let mut packet = vec![0_u8; 40];
    packet[0] = 0x45;
    packet[4..6].copy_from_slice(&7_u16.to_be_bytes());
    packet[9] = 6;
    packet[12..16].copy_from_slice(&[10, 77, 0, 1]);
    packet[16..20].copy_from_slice(&[10, 77, 0, 2]);
    packet[24..28].copy_from_slice(&1000_u32.to_be_bytes());
    packet[32] = 0x50;
    packet[33] = TCP_FIN | TCP_PSH | 0x10;
    packet.extend((0..payload).map(|index| index as u8));
    bytes.extend(packet);
    bytes
}

#[test]
fn a_super_packet_counts_its_segments() {
    let bytes = super_packet(4500, 1448);
    let packet = Packet::parse(&bytes);
    assert_eq!(packet.segments(), 4);
    assert_eq!(packet.segment_bytes(), 1488);
}

#[test]
fn the_pieces_around_a_loss_are_whole_packets_of_their_own() {
    let bytes = super_packet(4500, 1448);
    let packet = Packet::parse(&bytes);
    let mut piece = Vec::new();

    assert!(packet.piece(0..2, &mut piece));
    let (header, ip) = piece.split_at(VNET_HEADER);
    assert_eq!(header[1], GSO_TCP4);
    assert_eq!(ip.len(), 40 + 2 * 1448);
    assert_eq!(big(ip, 2), Some(40 + 2 * 1448));
    assert_eq!(sum(&ip[..20]), 0xffff, "the IP checksum holds");
    assert_eq!(ip[24..28], 1000_u32.to_be_bytes());
    assert_eq!(ip[33], 0x10, "FIN and PSH belong to the last segment");

    assert!(packet.piece(3..4, &mut piece));
    let (header, ip) = piece.split_at(VNET_HEADER);
    assert_eq!(header[1], GSO_NONE, "one segment is a plain packet");
    assert_eq!(ip.len(), 40 + 4500 - 3 * 1448);
    assert_eq!(big(ip, 4), Some(10), "identification counts segments");
    assert_eq!(ip[24..28], (1000 + 3 * 1448_u32).to_be_bytes());
    assert_eq!(ip[33], TCP_FIN | TCP_PSH | 0x10);
    assert_eq!(ip[40], (3 * 1448) as u8, "its own payload");
    let expected = fold(0x0a4d + 1 + 0x0a4d + 2 + 6 + 20 + 4500 - 3 * 1448);
    assert_eq!(big(ip, 36), Some(expected), "the partial checksum");
}

#[test]
fn plain_and_broken_packets_travel_as_they_are() {
    let mut bytes = super_packet(100, 0);
    bytes[1] = GSO_NONE;
    let packet = Packet::parse(&bytes);
    assert_eq!((packet.segments(), packet.segment_bytes()), (1, 140));
    assert!(!packet.piece(0..1, &mut Vec::new()));
    let bytes = super_packet(4500, 1448);
    for length in 0..60 {
        let packet = Packet::parse(&bytes[..length]);
        let _ = packet.piece(0..packet.segments(), &mut Vec::new());
    }
}
