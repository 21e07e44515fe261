//go:build tools

// Compose v2 from its Go modules, for where Docker's plug-in cannot be had: make .compose/docker-compose
// Names what is compiled, so that go.mod and go.sum pin all of it.
package tools

import _ "github.com/docker/compose/v2/cmd"
