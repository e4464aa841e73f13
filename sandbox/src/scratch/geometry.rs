//! How large an ext4 has to be for a job to have exactly what its limits say.
//!
//! ext4 keeps its own tables inside its size, so the file system is made larger than the limit,
//! and what is then too much is reserved for the host's root, whom no container has.

use crate::Limits;

/// Bytes of a block: the page size of every platform, which ext4 needs.
pub(super) const BLOCK: u64 = 4096;
/// Bytes of an inode, with room for the extended attributes of an overlay.
pub(super) const INODE: u64 = 256;

/// Blocks that one bitmap block describes, and so blocks and at most inodes of a block group.
const GROUP: u64 = BLOCK * 8;
/// Blocks that the kernel keeps back for its own at most (`reserved_clusters`), and as many again
/// for superblock, journal-less start and the directories that are made first.
const FIXED: u64 = 2 * 4096;
/// Inodes that are in use in an empty one: ten of ext4's own and its `lost+found`, and the
/// directories that are made first.
const USED_INODES: u64 = 16;
/// One in this many blocks is a bitmap or descriptor at most.
const TABLES: u64 = 1000;

/// Superblock: offset of the superblock, and of the two halves of its count of reserved blocks in
/// it (`s_r_blocks_count_lo`, `_hi`; "ext4 Data Structures and Algorithms", section 4.1).
const RESERVED: [usize; 2] = [1024 + 0x8, 1024 + 0x154];

/// Blocks that a job with these limits can use.
pub(super) fn usable_blocks(limits: &Limits) -> u64 {
    limits.disk / BLOCK
}

/// Inodes of a file system in which that many are sure to be free.
pub(super) fn whole_inodes(limits: &Limits) -> u64 {
    limits.inodes.saturating_add(USED_INODES)
}

/// Blocks of a file system in which that many blocks and inodes are sure to be free.
pub(super) fn whole_blocks(limits: &Limits) -> u64 {
    let inodes = whole_inodes(limits);
    let inode_table = inodes.div_ceil(BLOCK / INODE);
    let needed = usable_blocks(limits).saturating_add(inode_table).saturating_add(FIXED);
    let with_tables = needed.saturating_add(needed / TABLES);
    // A group has no more inodes than blocks.
    with_tables.max(inodes.saturating_add(GROUP))
}

/// Writes the count of reserved blocks into a superblock without checksum; `start` is the first
/// block of the file system.
pub(super) fn reserve(start: &mut [u8], blocks: u64) -> Option<()> {
    let bytes = blocks.to_le_bytes();
    for (offset, half) in RESERVED.into_iter().zip(bytes.chunks_exact(4)) {
        start.get_mut(offset..offset + 4)?.copy_from_slice(half);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_blocks_are_written_where_the_kernel_reads_them() {
        let mut start = vec![0; 4096];
        reserve(&mut start, 0x1_0203_0405).unwrap();
        assert_eq!(start[1032..1036], [5, 4, 3, 2]);
        assert_eq!(start[1364..1368], [1, 0, 0, 0]);
        assert!(reserve(&mut start[..1200], 1).is_none());
    }
}
