//go:build tools

// Names what `build` compiles, so that go.mod and go.sum pin all of it.
package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
