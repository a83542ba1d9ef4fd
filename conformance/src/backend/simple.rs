//! A backend with its writer and store, for cases with states of their own.

use std::sync::Arc;

use strandline_state_api::StateKey;
use strandline_state_api::backend::BackendFactory;
use strandline_state_testing::Rig;

use crate::segments::FaultySegments;
use crate::subject::Subject;

pub(crate) type Simple<F, K> = Rig<F, K, FaultySegments>;

pub(crate) fn rig<F: BackendFactory, K: StateKey>(subject: &Subject<F>) -> Simple<F, K> {
    rig_on(subject, Arc::default())
}

pub(crate) fn rig_on<F: BackendFactory, K: StateKey>(
    subject: &Subject<F>,
    store: Arc<FaultySegments>,
) -> Simple<F, K> {
    Rig::in_scope(subject.factory().clone(), store, Subject::<F>::scope()).unwrap()
}
