//! A binary heap of small numbers whose order is decided elsewhere, and changes for the top alone.

/// Numbers, the smallest by some order on top. The order is handed in at each call and must have changed for no number
/// but the top one since the call before.
#[derive(Debug, Default)]
pub(super) struct Heap(Vec<usize>);

impl Heap {
    pub(super) fn top(&self) -> Option<usize> {
        self.0.first().copied()
    }

    pub(super) fn push(&mut self, number: usize, less: impl Fn(usize, usize) -> bool) {
        let heap = &mut self.0;
        heap.push(number);
        let mut at = heap.len() - 1;
        while at > 0 && less(heap[at], heap[(at - 1) / 2]) {
            heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    /// Takes the top away.
    pub(super) fn pop(&mut self, less: impl Fn(usize, usize) -> bool) {
        if !self.0.is_empty() {
            self.0.swap_remove(0);
            self.top_changed(less);
        }
    }

    /// Restores the order after the top one has moved behind.
    #[inline]
    pub(super) fn top_changed(&mut self, less: impl Fn(usize, usize) -> bool) {
        let heap = &mut self.0;
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= heap.len() {
                return;
            }
            if child + 1 < heap.len() && less(heap[child + 1], heap[child]) {
                child += 1;
            }
            if !less(heap[child], heap[at]) {
                return;
            }
            heap.swap(at, child);
            at = child;
        }
    }
}
