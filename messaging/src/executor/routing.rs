//! [`Routing`]: finds a delivery's handler by its topic and event name. Each worker has its own.

use crate::{name::Name, router::TopicRoutes};

pub(super) struct Routing {
    /// In the order of the plan's topics.
    topics: Vec<TopicRouting>,
}

struct TopicRouting {
    events: Vec<EventRoute>,
    message: Option<usize>,
}

struct EventRoute {
    name: Name,
    /// The same name as the last message brought it. Messages of one publisher or backend share one text, which is
    /// known by its address.
    seen: Name,
    route: usize,
}

impl Routing {
    pub(super) fn new(topics: &[TopicRoutes]) -> Self {
        let event =
            |(name, route): &(Name, usize)| EventRoute { name: name.clone(), seen: name.clone(), route: *route };
        let topic = |routes: &TopicRoutes| TopicRouting {
            events: routes.events.iter().map(event).collect(),
            message: routes.message,
        };
        Self { topics: topics.iter().map(topic).collect() }
    }

    /// The index of the route for an event of this name, or for a message without one.
    #[inline]
    pub(super) fn find(&mut self, topic: u32, name: Option<&Name>) -> Option<usize> {
        let routes = self.topics.get_mut(topic as usize)?;
        let Some(name) = name else { return routes.message };
        match routes.events.iter().find(|event| event.seen.is_same(name)) {
            Some(event) => Some(event.route),
            None => routes.find_by_text(name),
        }
    }
}

impl TopicRouting {
    fn find_by_text(&mut self, name: &Name) -> Option<usize> {
        match self.events.iter_mut().find(|event| event.name == *name) {
            Some(event) => {
                event.seen = name.clone();
                Some(event.route)
            }
            None => self.message,
        }
    }
}
