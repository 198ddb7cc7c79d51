//! Places for uploads that are being received: their number is bounded by the descriptors of the process, and no address
//! takes all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::access;

/// An address that has more than this part of all places gets no other one while half of them are taken.
const SHARE: usize = 4;

/// The places.
pub struct Receiving {
    places: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place, for as long as this lives.
pub struct Place {
    receiving: Arc<Receiving>,
    address: IpAddr,
}

impl Receiving {
    /// So many places, all of them free.
    pub fn new(places: usize) -> Self {
        Receiving { places, taken: Mutex::default() }
    }

    /// Takes a place for a client; none where all are taken, or where this address has its share of them and others need
    /// the rest. Of IPv6 a /64 is one address.
    pub fn place(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let address = access::network(client);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_address.get(&address).copied().unwrap_or_default();
        let has_share = own >= self.places.div_ceil(SHARE);
        if taken.all >= self.places || (has_share && taken.all >= self.places.div_ceil(2)) {
            return None;
        }
        taken.all += 1;
        *taken.by_address.entry(address).or_default() += 1;
        Some(Place { receiving: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.receiving.taken.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn one_address_leaves_half_of_the_places_to_others() {
        let receiving = Arc::new(Receiving::new(8));
        let own: Vec<Place> = (0..8).filter_map(|_| receiving.place(address(1))).collect();
        assert_eq!(own.len(), 4);
        let others: Vec<Place> = (2..10).filter_map(|number| receiving.place(address(number))).collect();
        assert_eq!(others.len(), 4);
        assert!(receiving.place(address(20)).is_none());
        drop(own);
        assert!(receiving.place(address(20)).is_some());
        drop(others);
        let taken = receiving.taken.lock().unwrap();
        assert!(taken.all == 0 && taken.by_address.is_empty());
    }

    #[test]
    fn a_single_place_is_for_everybody() {
        let receiving = Arc::new(Receiving::new(1));
        let place = receiving.place(address(1));
        assert!(place.is_some() && receiving.place(address(2)).is_none());
    }
}
