// Command example takes an organisation from prices over usage to a bill in the books, as sdk/python/examples/billing.py
// does. TOLLMESH_ADDRESS and TOLLMESH_API_KEY say where.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	billingv1 "tollmesh.dev/gen/go/payments/billing/v1"
	ledgerv1 "tollmesh.dev/gen/go/payments/ledger/v1"
	meteringv1 "tollmesh.dev/gen/go/payments/metering/v1"
	pricingv1 "tollmesh.dev/gen/go/payments/pricing/v1"
	typev1 "tollmesh.dev/gen/go/payments/type/v1"
)

const (
	org   = "example-go"
	calls = "example.calls"
)

func main() {
	connection, err := grpc.NewClient(os.Getenv("TOLLMESH_ADDRESS"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("TOLLMESH_API_KEY"))
	if err := bill(ctx, connection); err != nil {
		log.Fatal(err)
	}
}

// bill prices calls, reports a day of them, charges the day and prints what the ledger has of it. Ids that are derived
// from the day make the whole repeatable: run twice, it bills once.
func bill(ctx context.Context, mesh *grpc.ClientConn) error {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	yesterday := &typev1.Period{StartAt: timestamppb.New(today.AddDate(0, 0, -1)), EndAt: timestamppb.New(today)}
	price := &pricingv1.Price{IncludedQty: "100", Model: &pricingv1.Price_PerUnit{PerUnit: &pricingv1.PerUnitPrice{UnitAmount: "0.05"}}}
	catalog := &pricingv1.Catalog{
		Skus: []*pricingv1.Sku{{Sku: calls, Type: pricingv1.SkuType_SKU_TYPE_ACTION, Unit: "call", Aggregation: typev1.Aggregation_AGGREGATION_SUM}},
		Plans: []*pricingv1.Plan{{PlanId: org, Name: "Go example", CurrencyCode: "USD", Status: pricingv1.Plan_STATUS_ACTIVE,
			Prices: []*pricingv1.PlanPrice{{Sku: calls, Price: price}}}},
		Entitlements: []*pricingv1.Entitlement{{OrgId: org, PlanId: org, EffectiveAt: yesterday.StartAt}},
	}
	if _, err := pricingv1.NewCatalogServiceClient(mesh).ApplyCatalog(ctx, &pricingv1.ApplyCatalogRequest{Catalog: catalog}); err != nil {
		return err
	}
	usage := &meteringv1.IngestEventsRequest{}
	for hour := range 24 {
		at := yesterday.StartAt.AsTime().Add(time.Duration(hour) * time.Hour)
		usage.Events = append(usage.Events, &meteringv1.UsageEvent{RequestId: org + " " + at.Format(time.RFC3339), OrgId: org, Sku: calls, Quantity: "10", EventTime: timestamppb.New(at)})
	}
	receipt, err := meteringv1.NewMeteringServiceClient(mesh).IngestEvents(ctx, usage)
	if err != nil {
		return err
	}
	fmt.Println(receipt.Accepted, "accepted,", receipt.Duplicate, "duplicate,", len(receipt.Problems), "problems")
	request := &billingv1.CreateChargeRequest{RequestId: today.Format("20060102") + "-0000-4000-8000-000000000000", OrgId: org, Period: yesterday}
	answer, err := billingv1.NewChargeServiceClient(mesh).CreateCharge(ctx, request)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d %s\n", answer.Charge.ChargeId, answer.Charge.Total.MinorUnits, answer.Charge.Total.CurrencyCode)
	page, err := ledgerv1.NewLedgerServiceClient(mesh).ListEntries(ctx, &ledgerv1.ListEntriesRequest{AccountId: "receivable:" + org + ":USD"})
	if err != nil {
		return err
	}
	for _, entry := range page.Entries {
		fmt.Println(entry.AccountId, entry.Direction, entry.Amount.MinorUnits, "from", entry.CounterAccountId)
	}
	return nil
}
