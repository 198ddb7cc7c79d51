//! Slots of uploads whose bodies are being received. Each holds open files, so the descriptors of the process bound
//! their number, and no address takes all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::access;
use crate::base::Lock;

/// While at least half of all slots are taken, an address that holds one `SHARE`th of them gets no further slot.
const SHARE: usize = 4;

/// Slots for uploads.
pub struct UploadSlots {
    slots: usize,
    taken: Lock<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Slots that each address holds. An address without slots has no entry, so that the slots bound the map.
    by_address: HashMap<IpAddr, usize>,
}

/// Slot of one upload; dropping it frees the slot.
pub struct UploadSlot {
    slots: Arc<UploadSlots>,
    address: IpAddr,
}

impl UploadSlots {
    /// Makes this number of free slots.
    pub fn new(slots: usize) -> Self {
        UploadSlots { slots, taken: Lock::default() }
    }

    /// Takes a slot for a client. Returns `None` if all are taken, or if this address has its share and others need the
    /// rest. All addresses of an IPv6 /64 count as one.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<UploadSlot> {
        let address = access::network(client);
        let mut taken = self.taken.lock();
        let own = taken.by_address.get(&address).copied().unwrap_or_default();
        let has_share = own >= self.slots.div_ceil(SHARE);
        if taken.all >= self.slots || (has_share && taken.all >= self.slots.div_ceil(2)) {
            return None;
        }
        taken.all += 1;
        *taken.by_address.entry(address).or_default() += 1;
        Some(UploadSlot { slots: Arc::clone(self), address })
    }
}

impl Drop for UploadSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn one_address_leaves_half_of_the_slots_to_others() {
        let slots = Arc::new(UploadSlots::new(8));
        let own: Vec<UploadSlot> = (0..8).filter_map(|_| slots.take(address(1))).collect();
        assert_eq!(own.len(), 4);
        let others: Vec<UploadSlot> = (2..10).filter_map(|number| slots.take(address(number))).collect();
        assert_eq!(others.len(), 4);
        assert!(slots.take(address(20)).is_none());
        drop(own);
        assert!(slots.take(address(20)).is_some());
        drop(others);
        let taken = slots.taken.lock();
        assert!(taken.all == 0 && taken.by_address.is_empty());
    }

    #[test]
    fn a_single_slot_is_open_to_every_address() {
        let slots = Arc::new(UploadSlots::new(1));
        let slot = slots.take(address(1));
        assert!(slot.is_some() && slots.take(address(2)).is_none());
    }
}
