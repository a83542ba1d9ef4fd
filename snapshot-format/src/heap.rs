//! A binary heap of small numbers whose order the caller defines, and changes for the top one alone.

/// Numbers, the smallest by some order on top. The caller passes the order to each call; since the previous
/// call it must have changed for no number but the top one.
#[derive(Debug, Default)]
pub(crate) struct Heap(Vec<usize>);

impl Heap {
    pub(crate) fn top(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// Moves all numbers to the end of `numbers`, in no order.
    pub(crate) fn drain_into(&mut self, numbers: &mut Vec<usize>) {
        numbers.append(&mut self.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn push(&mut self, number: usize, less: impl Fn(usize, usize) -> bool) {
        let heap = &mut self.0;
        heap.push(number);
        let mut at = heap.len() - 1;
        while at > 0 && less(heap[at], heap[(at - 1) / 2]) {
            heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    /// Removes the top number.
    pub(crate) fn pop(&mut self, less: impl Fn(usize, usize) -> bool) {
        if !self.0.is_empty() {
            self.0.swap_remove(0);
            self.top_changed(less);
        }
    }

    /// Restores the order after the top number has moved back.
    #[inline]
    pub(crate) fn top_changed(&mut self, less: impl Fn(usize, usize) -> bool) {
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
