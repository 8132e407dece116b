// Streams, events, capture and graphs (CUDA Driver API, sections 6.18, 6.19, 6.23). Work runs when it is submitted,
// which is one of the orders that streams allow; capture records instead, and a graph launch replays the record.
#include <algorithm>
#include <utility>

#include "state.h"

namespace gpusim {

Stream* find_stream(Context& c, CUstream h) {
  if (reinterpret_cast<uintptr_t>(h) <= 2) return &c.null_stream;
  auto it = c.streams.find(h);
  return it == c.streams.end() ? nullptr : it->second.get();
}

// Work on the null stream waits for every blocking stream, which a capture cannot record.
static bool capturing_blocking(Context& c) {
  return std::any_of(c.streams.begin(), c.streams.end(),
                     [](const auto& s) { return s.second->capture && !(s.second->flags & 1); });
}

// How captures and this thread's calls get along.
static int& thread_capture_mode() {
  static thread_local int mode = kCaptureModeGlobal;
  return mode;
}

// Potentially unsafe calls: refused while this thread captures in a mode that is not relaxed, or any other thread
// captures in the global mode, unless this thread's own mode says otherwise (cuThreadExchangeStreamCaptureMode). The
// captures that forbid the call are spoilt.
CUresult refuse_in_capture(Context& c) {
  const int mode = thread_capture_mode();
  if (mode == kCaptureModeRelaxed) return kSuccess;
  bool refused = false;
  for (auto& s : c.streams) {
    if (!s.second->capture) continue;
    Capture& k = *s.second->capture;
    const bool forbids = k.thread == std::this_thread::get_id()
                             ? k.mode != kCaptureModeRelaxed
                             : k.mode == kCaptureModeGlobal && mode == kCaptureModeGlobal;
    if (forbids) k.invalid = refused = true;
  }
  return refused ? kCaptureUnsupported : kSuccess;
}

CUresult submit(Context& c, CUstream h, std::function<CUresult()> work) {
  Stream* s = find_stream(c, h);
  if (!s) return kInvalidHandle;
  if (s == &c.null_stream && capturing_blocking(c)) return kCaptureImplicit;
  if (!s->capture) {
    const CUresult r = work();
    // A kernel's fault shows in the next call, as on a device that runs beside the host.
    return c.sticky ? kSuccess : r;
  }
  Capture& k = *s->capture;
  if (k.invalid) return kCaptureInvalidated;
  k.work.push_back(std::move(work));
  k.knows[s][s] = k.work.size();
  k.last[s] = k.work.size();
  return kSuccess;
}

namespace {

CUresult replay(const Graph& g) {
  for (const auto& w : g.work) {
    CUresult r = w();
    if (r) return r;
  }
  return kSuccess;
}

CUresult instantiate(CUgraphExec* exec, CUgraph graph) {
  return with_context([&](Context&) -> CUresult {
    if (!exec) return kInvalidValue;
    auto it = state().graphs.find(graph);
    if (it == state().graphs.end()) return kInvalidValue;
    uint64_t& countdown = state().settings.fail_graph;
    if (countdown && --countdown == 0) return kOutOfMemory;
    trace("cuGraphInstantiate", nullptr);
    auto e = std::make_unique<Graph>(*it->second);
    void* handle = e.get();
    state().executables[handle] = std::move(e);
    *exec = static_cast<CUgraphExec>(handle);
    return kSuccess;
  });
}

}  // namespace
}  // namespace gpusim

using namespace gpusim;

GPUSIM_API CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  return with_context([&](Context& c) -> CUresult {
    if (!stream || flags > 1) return kInvalidValue;
    auto s = std::make_unique<Stream>();
    s->flags = flags;
    s->number = ++state().streams_made;
    void* handle = s.get();
    c.streams[handle] = std::move(s);
    *stream = static_cast<CUstream>(handle);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) {
  return cuStreamCreate(stream, flags);
}

GPUSIM_API CUresult cuStreamDestroy_v2(CUstream stream) {
  return with_context([&](Context& c) -> CUresult { return c.streams.erase(stream) ? kSuccess : kInvalidHandle; });
}

GPUSIM_API CUresult cuStreamSynchronize(CUstream stream) {
  return with_context([&](Context& c) -> CUresult {
    Stream* s = find_stream(c, stream);
    if (!s) return kInvalidHandle;
    trace("cuStreamSynchronize", s);
    if (!s->capture) return kSuccess;
    s->capture->invalid = true;
    return kCaptureUnsupported;
  });
}

GPUSIM_API CUresult cuStreamQuery(CUstream stream) {
  return cuStreamSynchronize(stream);
}

GPUSIM_API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  return with_context([&](Context& c) -> CUresult {
    Stream* s = find_stream(c, stream);
    auto it = c.events.find(event);
    if (!s || it == c.events.end()) return kInvalidHandle;
    Event& e = *it->second;
    trace("cuStreamWaitEvent", s, &e);
    if (!e.capture) return s->capture && e.recorded ? kCaptureIsolation : kSuccess;
    if (s->capture && s->capture != e.capture) return kCaptureIsolation;
    s->capture = e.capture;  // the stream joins the capture
    auto& known = e.capture->knows[s];
    for (const auto& k : e.knows) known[k.first] = std::max(known[k.first], k.second);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  return with_context([&](Context& c) -> CUresult {
    Stream* s = find_stream(c, stream);
    if (!s) return kInvalidHandle;
    if (mode < kCaptureModeGlobal || mode > kCaptureModeRelaxed) return kInvalidValue;
    if (s == &c.null_stream) return kCaptureUnsupported;
    if (s->capture) return kInvalidValue;
    s->capture = std::make_shared<Capture>();
    s->capture->origin = s;
    s->capture->mode = mode;
    s->capture->thread = std::this_thread::get_id();
    return kSuccess;
  });
}

GPUSIM_API CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  return with_context([&](Context& c) -> CUresult {
    Stream* s = find_stream(c, stream);
    if (!s) return kInvalidHandle;
    if (!graph || !s->capture) return kInvalidValue;
    std::shared_ptr<Capture> k = s->capture;
    if (k->origin != s) return kCaptureUnmatched;
    for (auto& other : c.streams) {
      if (other.second->capture == k) other.second->capture = nullptr;
    }
    *graph = nullptr;
    if (k->invalid) return kCaptureInvalidated;
    for (const auto& l : k->last) {
      if (k->knows[s][l.first] < l.second) return kCaptureUnjoined;
    }
    auto g = std::make_unique<Graph>();
    g->work = std::move(k->work);
    void* handle = g.get();
    state().graphs[handle] = std::move(g);
    *graph = static_cast<CUgraph>(handle);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuThreadExchangeStreamCaptureMode(int* mode) {
  return with_driver([&]() -> CUresult {
    if (!mode || *mode < kCaptureModeGlobal || *mode > kCaptureModeRelaxed) return kInvalidValue;
    std::swap(*mode, thread_capture_mode());
    return kSuccess;
  });
}

GPUSIM_API CUresult cuStreamIsCapturing(CUstream stream, int* status) {
  return with_context([&](Context& c) -> CUresult {
    Stream* s = find_stream(c, stream);
    if (!s) return kInvalidHandle;
    if (!status) return kInvalidValue;
    *status = !s->capture ? 0 : s->capture->invalid ? 2 : 1;
    return kSuccess;
  });
}

GPUSIM_API CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  return instantiate(exec, graph);
}
GPUSIM_API CUresult cuGraphInstantiate_v2(CUgraphExec* exec, CUgraph graph, void*, char*, size_t) {
  return instantiate(exec, graph);
}
GPUSIM_API CUresult cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, void*, char*, size_t) {
  return instantiate(exec, graph);
}

GPUSIM_API CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  return with_context([&](Context& c) -> CUresult {
    auto it = state().executables.find(exec);
    if (it == state().executables.end()) return kInvalidValue;
    const Graph g = *it->second;
    trace("cuGraphLaunch", find_stream(c, stream));
    return submit(c, stream, [g] { return replay(g); });
  });
}

GPUSIM_API CUresult cuGraphUpload(CUgraphExec exec, CUstream) {
  return with_context([&](Context&) -> CUresult { return state().executables.count(exec) ? kSuccess : kInvalidValue; });
}

GPUSIM_API CUresult cuGraphDestroy(CUgraph graph) {
  return with_driver([&]() -> CUresult { return state().graphs.erase(graph) ? kSuccess : kInvalidValue; });
}

GPUSIM_API CUresult cuGraphExecDestroy(CUgraphExec exec) {
  return with_driver([&]() -> CUresult {
    trace("cuGraphExecDestroy", nullptr);
    return state().executables.erase(exec) ? kSuccess : kInvalidValue;
  });
}

GPUSIM_API CUresult cuEventCreate(CUevent* event, unsigned) {
  return with_context([&](Context& c) -> CUresult {
    if (!event) return kInvalidValue;
    auto e = std::make_unique<Event>();
    e->number = ++state().events_made;
    void* handle = e.get();
    c.events[handle] = std::move(e);
    *event = static_cast<CUevent>(handle);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuEventRecord(CUevent event, CUstream stream) {
  return with_context([&](Context& c) -> CUresult {
    Stream* s = find_stream(c, stream);
    auto it = c.events.find(event);
    if (!s || it == c.events.end()) return kInvalidHandle;
    Event& e = *it->second;
    trace("cuEventRecord", s, &e);
    e.recorded = true;
    e.when = std::chrono::steady_clock::now();
    e.capture = s->capture;
    e.knows.clear();
    if (s->capture) e.knows = s->capture->knows[s];
    return kSuccess;
  });
}

GPUSIM_API CUresult cuEventSynchronize(CUevent event) {
  return with_context([&](Context& c) -> CUresult {
    auto it = c.events.find(event);
    if (it == c.events.end()) return kInvalidHandle;
    trace("cuEventSynchronize", nullptr, it->second.get());
    return it->second->capture && !it->second->capture->work.empty() ? kCapturedEvent : kSuccess;
  });
}

GPUSIM_API CUresult cuEventQuery(CUevent event) {
  return cuEventSynchronize(event);
}

GPUSIM_API CUresult cuEventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
  return with_context([&](Context& c) -> CUresult {
    auto a = c.events.find(from), b = c.events.find(to);
    if (a == c.events.end() || b == c.events.end() || !a->second->recorded || !b->second->recorded)
      return kInvalidHandle;
    if (!milliseconds) return kInvalidValue;
    *milliseconds = std::chrono::duration<float, std::milli>(b->second->when - a->second->when).count();
    return kSuccess;
  });
}

GPUSIM_API CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent from, CUevent to) {
  return cuEventElapsedTime(milliseconds, from, to);
}

GPUSIM_API CUresult cuEventDestroy_v2(CUevent event) {
  return with_context([&](Context& c) -> CUresult { return c.events.erase(event) ? kSuccess : kInvalidHandle; });
}

GPUSIM_API CUresult cuLaunchHostFunc(CUstream stream, CUhostFn fn, void* data) {
  return with_context([&](Context& c) -> CUresult {
    if (!fn) return kInvalidValue;
    return submit(c, stream, [=]() -> CUresult {
      fn(data);
      return kSuccess;
    });
  });
}
