// Package export_tidegate_gateway_integration is what the generated exports call.
package export_tidegate_gateway_integration

import (
	"tidegate"
	host "tidegate/bindings/tidegate_gateway_types"
	"tidegate/edits"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// Integrate asks the plugin.
func Integrate(given []types.Option[string]) types.Result[host.Plan, string] {
	tidegate.Handed = tidegate.RecordOf(given)
	plugin, is := tidegate.Current.(tidegate.Integration)
	if !is {
		return types.Err[host.Plan, string]("the plugin has no method Integrate() (tidegate.Plan, error)")
	}
	plan, err := plugin.Integrate()
	if err != nil {
		return types.Err[host.Plan, string](err.Error())
	}
	var made host.Plan
	switch {
	case plan.Respond != nil:
		made = host.MakePlanRespond(edits.Response(*plan.Respond))
	case plan.Invoke != "":
		made = host.MakePlanInvoke(host.Invocation{
			Function:  plan.Invoke,
			Edits:     edits.Of(plan.Edits),
			TimeoutMs: unlessZero(plan.TimeoutMs),
		})
	default:
		made = host.MakePlanForward(host.Forward{
			Uri:       plan.Forward,
			Method:    unlessZero(plan.Method),
			Edits:     edits.Of(plan.Edits),
			TimeoutMs: unlessZero(plan.TimeoutMs),
		})
	}
	return types.Ok[host.Plan, string](made)
}

// unlessZero is the value where it says something.
func unlessZero[T comparable](value T) types.Option[T] {
	var zero T
	if value == zero {
		return types.None[T]()
	}
	return types.Some(value)
}
